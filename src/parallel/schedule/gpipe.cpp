// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/schedule.h"

namespace gf {

// Huang et al. 2019. All forwards, then all backwards: simple, and every microbatch stays in memory.
std::vector<Compute> plan_gpipe(const PipeShape& s) {
  using enum Compute::Pass;
  std::vector<Compute> plan;
  for (int piece = 0; piece < s.pieces; ++piece)
    for (int m = 0; m < s.microbatches; ++m) plan.push_back({forward, m, piece});
  for (int piece = s.pieces - 1; piece >= 0; --piece)
    for (int m = 0; m < s.microbatches; ++m) plan.push_back({backward, m, piece});
  return plan;
}

}  // namespace gf
