// SPDX-License-Identifier: Apache-2.0
// Layers to stages by cost, under a limit of memory.
#pragma once
#include <array>
#include <map>
#include <tuple>

#include "base/process_memory.h"
#include "train/memory.h"

namespace gf {

// What stages need, each worked out once: layers of a kind need the same, wherever they stand. Of one model, microbatch
// and grad_cp; the section parallel may be another each time.
class StageNeeds {
 public:
  explicit StageNeeds(const Config& config)
      : program_(config.train.on_gpu() ? 0 : resident_bytes()), config_(config), layers_(layout_of(config.model)) {}

  const StageNeed& of(size_t begin, size_t end, int64_t validation_windows);
  // As large as it was at the beginning, so that forecasts compare. Nothing of it is in a GPU's memory.
  size_t program() const { return program_; }
  // Equal to forecast_memory(), but for the program.
  MemoryForecast forecast(const Config&, const RankShare&);
  // Whether each rank of the pipeline fits; at the worst it waits for its saves.
  bool all_fit(const Config&, RankShare, size_t room);

 private:
  static constexpr size_t kKinds = 5;
  using Counts = std::array<int, 2 * kKinds>;  // of lower layers and of blocks of the upper stack
  bool upper(const LayerSpec&) const;
  size_t program_;
  Config config_;
  std::vector<LayerSpec> layers_;
  std::map<std::tuple<Counts, Fields, Fields, int64_t, size_t>, StageNeed> known_;
};

// Of what a stage needs, the part that more layers never lessen. They may lessen the rest: with more of them below,
// buckets close elsewhere, and the largest may be smaller.
size_t never_lessened(const MemoryForecast&, const Sharding&);

// The cut of least cost, or where a rank of it needs more than `room` bytes beside the program (MemoryForecast::more),
// the cut of least cost in which no rank does; where there is none, the first one again. `share` is any rank's, of
// which stage and partition do not matter.
Partition partition_within(const Config&, RankShare share, const std::vector<double>& costs, size_t room, StageNeeds&);

}  // namespace gf
