// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "parallel/schedule/schedule.h"

namespace gf {
namespace {

// The microbatches go through a rank's pieces in groups of `ranks`.
std::vector<Compute> passes_in_groups(const PipeShape& s, Compute::Pass pass) {
  std::vector<Compute> all;
  for (int first = 0; first < s.microbatches; first += s.ranks)
    for (int i = 0; i < s.pieces; ++i)
      for (int m = first; m < first + s.ranks; ++m)
        all.push_back({pass, m, pass == Compute::Pass::forward ? i : s.pieces - 1 - i});
  return all;
}

}  // namespace

// Narayanan et al. 2021. 1F1B over several pieces a rank: the pipeline fills in steps of a piece instead of all that
// the rank has, so that the bubble is shorter by their number.
std::vector<Compute> plan_interleaved(const PipeShape& s) {
  const auto forward = passes_in_groups(s, Compute::Pass::forward);
  const auto backward = passes_in_groups(s, Compute::Pass::backward);
  const size_t rounds = static_cast<size_t>(s.ranks - s.rank - 1) * (s.pieces > 1 ? 2 : 1) +
                        static_cast<size_t>(s.pieces - 1) * static_cast<size_t>(s.ranks),
               warmup = std::min(forward.size(), rounds);
  std::vector<Compute> plan(forward.begin(), forward.begin() + static_cast<int64_t>(warmup));
  for (size_t i = warmup; i < forward.size(); ++i) {
    plan.push_back(forward[i]);
    plan.push_back(backward[i - warmup]);
  }
  plan.insert(plan.end(), backward.end() - static_cast<int64_t>(warmup), backward.end());
  // The last group was filled up with microbatches that there are not.
  std::erase_if(plan, [&](const Compute& c) { return c.microbatch >= s.microbatches; });
  return plan;
}

}  // namespace gf
