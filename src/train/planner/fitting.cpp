// SPDX-License-Identifier: Apache-2.0
#include "train/planner/fitting.h"

#include <algorithm>

namespace gf {

bool StageNeeds::upper(const LayerSpec& spec) const {
  return spec.kind == LayerSpec::Kind::block && spec.block >= config_.model.first_upper();
}

const StageNeed& StageNeeds::of(size_t begin, size_t end, int64_t validation_windows) {
  Counts counts{};
  for (const LayerSpec& spec : stage_layers(layers_, begin, end))
    ++counts[static_cast<size_t>(spec.kind) + (upper(spec) ? kKinds : 0)];
  const auto cuts = boundary_shapes(config_.model, {{begin, end}}, 1, config_.train.computes_in());
  // Stages of the same layers may train others of them.
  const bool alike = config_.train.groups.empty();
  const auto key = std::tuple(counts, cuts[0].fields, cuts[1].fields, validation_windows, alike ? size_t{0} : begin);
  const auto found = known_.find(key);
  if (found != known_.end()) return found->second;
  return known_.emplace(key, need_of_stage(config_, begin, end, validation_windows)).first->second;
}

MemoryForecast StageNeeds::forecast(const Config& config, const RankShare& share) {
  const std::vector<size_t>& cuts = share.partition.cuts;
  const int64_t windows = std::min(share.validation_windows, config.train.micro_bsz);
  std::vector<StageNeed> stages;
  for (size_t s = share.stage; s + 1 < cuts.size(); s += config.parallel.pipeline)
    stages.push_back(of(cuts[s], cuts[s + 1], windows));
  MemoryForecast f = forecast_memory(config, share, stages);
  f.program = program_;
  return f;
}

bool StageNeeds::all_fit(const Config& config, RankShare share, size_t room) {
  for (share.stage = 0; share.stage < config.parallel.pipeline; ++share.stage) {
    MemoryForecast f = forecast(config, share);
    f.fit(room);
    if (f.more() > room) return false;
  }
  return true;
}

size_t never_lessened(const MemoryForecast& f, const Sharding& sharding) {
  size_t buckets = f.reductions;
  if (sharding.zero >= 2) buckets += f.gradients;
  if (sharding.zero >= 3) buckets += f.parameters;
  return f.more() - buckets;
}

Partition partition_within(const Config& config, RankShare share, const std::vector<double>& costs, size_t room,
                           StageNeeds& needs) {
  const int ranks = static_cast<int>(config.parallel.pipeline), pieces = static_cast<int>(config.parallel.pieces);
  const int64_t windows = std::min(share.validation_windows, config.train.micro_bsz);
  Partition best = balanced_partition(config.model, costs, ranks * pieces, pieces);
  share.partition = best;
  if (needs.all_fit(config, share, room)) return best;
  // Of several pieces each is asked to fit were all of the rank's like it. Together they may still need more, one much
  // for its parameters and another for its passes: then each is asked to fit into less.
  for (size_t asked = room; asked > room / 2; asked -= room / 20) {
    const auto fits = [&](size_t begin, size_t end, int stage) {
      share.stage = stage % ranks;
      MemoryForecast f = forecast_memory(config, share, std::vector<StageNeed>(pieces, needs.of(begin, end, windows)));
      f.fit(asked);
      if (f.more() <= asked) return StageFit::yes;
      return never_lessened(f, share.sharding) > asked ? StageFit::nor_with_more : StageFit::no;
    };
    const auto within = fitting_partition(config.model, costs, ranks * pieces, fits);
    if (!within) break;
    share.partition = *within;
    if (needs.all_fit(config, share, room)) return *within;
  }
  return best;
}

}  // namespace gf
