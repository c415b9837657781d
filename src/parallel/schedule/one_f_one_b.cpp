// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "parallel/schedule/schedule.h"

namespace gf {

// Narayanan et al. 2021. Warm up just far enough to keep the ranks below busy, then alternate, then
// drain: at most ranks - rank microbatches are in memory.
std::vector<Compute> plan_one_f_one_b(const PipeShape& s) {
  const int warmup = std::min(s.ranks - s.rank - 1, s.microbatches);
  std::vector<Compute> plan;
  for (int m = 0; m < warmup; ++m) plan.push_back({Compute::Pass::forward, m});
  for (int m = warmup; m < s.microbatches; ++m) {
    plan.push_back({Compute::Pass::forward, m});
    plan.push_back({Compute::Pass::backward, m - warmup});
  }
  for (int m = s.microbatches - warmup; m < s.microbatches; ++m) plan.push_back({Compute::Pass::backward, m});
  return plan;
}

}  // namespace gf
