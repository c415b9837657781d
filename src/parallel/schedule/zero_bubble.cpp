// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "parallel/schedule/schedule.h"

namespace gf {

// Qi et al. 2023, "ZB-H1". 1F1B whose backward pass first gives the input gradients, for which the stage below waits;
// the weight gradients follow later and fill the bubble. Rank r puts them off by r microbatches, so that no rank keeps
// more of them than the first one does in 1F1B.
std::vector<Compute> plan_zero_bubble(const PipeShape& s) {
  using enum Compute::Pass;
  const int warmup = std::min(s.ranks - s.rank - 1, s.microbatches);
  std::vector<Compute> plan;
  int weights = 0;
  for (int m = 0; m < warmup; ++m) plan.push_back({forward, m});
  for (int m = 0; m < s.microbatches; ++m) {
    const bool steady = m + warmup < s.microbatches;
    if (steady) plan.push_back({forward, m + warmup});
    plan.push_back({backward_input, m});
    // While the pipeline drains, there is time for one in each gap.
    if (weights < m - s.rank + 1 || (!steady && weights <= m)) plan.push_back({backward_weight, weights++});
  }
  while (weights < s.microbatches) plan.push_back({backward_weight, weights++});
  return plan;
}

}  // namespace gf
