// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/schedule.h"

namespace gf {

// Huang et al. 2019. All forwards, then all backwards: simple, and every microbatch stays in memory.
std::vector<Compute> plan_gpipe(const PipeShape& s) {
  std::vector<Compute> plan;
  for (int m = 0; m < s.microbatches; ++m) plan.push_back({Compute::Pass::forward, m});
  for (int m = 0; m < s.microbatches; ++m) plan.push_back({Compute::Pass::backward, m});
  return plan;
}

}  // namespace gf
