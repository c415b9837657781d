// SPDX-License-Identifier: Apache-2.0
#include "train/planner/layouts.h"

#include <algorithm>

#include "base/text.h"
#include "parallel/mesh.h"
#include "train/evaluate.h"
#include "train/planner/fitting.h"
#include "train/planner/layer_times.h"

namespace gf {
namespace {

std::vector<int64_t> divisors(int64_t n) {
  std::vector<int64_t> all;
  for (int64_t i = 1; i <= n; ++i)
    if (n % i == 0) all.push_back(i);
  return all;
}

int64_t parts_of(const std::string& partition) {
  return 1 + std::count(partition.begin(), partition.end(), ',');
}

std::vector<std::string> schedules_for(const Config& c, const GivenKeys& given, int64_t pipeline) {
  if (given.contains("parallel.schedule")) return {c.parallel.schedule};
  if (pipeline == 1) return {ParallelConfig().schedule};  // one rank has nothing to order
  const auto names = schedule_names();
  return std::vector<std::string>(names.begin(), names.end());
}

// Numbers of pieces that each rank may have.
std::vector<int64_t> pieces_for(const Config& c, const GivenKeys& given, const std::string& schedule,
                                int64_t pipeline) {
  const bool several = find_schedule(schedule).takes_pieces && pipeline > 1;
  const bool one = schedule != "interleaved" || pipeline == 1;  // one piece interleaved is 1F1B
  std::vector<int64_t> all;
  if (given.contains("parallel.pieces")) {
    const int64_t pieces = c.parallel.pieces;
    if (pieces == 1 ? one || given.contains("parallel.schedule") : several) all.push_back(pieces);
  } else {
    if (one) all.push_back(1);
    for (int64_t pieces = 2; several && pieces * pipeline <= c.model.n_layer; ++pieces) all.push_back(pieces);
  }
  std::erase_if(all, [&](int64_t pieces) {
    const auto& partition = c.parallel.partition;
    return pieces * pipeline > c.model.n_layer ||
           (c.parallel.partition_is_given() && parts_of(*partition) != pieces * pipeline);
  });
  return all;
}

// Those of a pipeline of this length.
std::vector<ParallelConfig> layouts_of(const Config& c, const GivenKeys& given, int64_t pipeline, int64_t data) {
  std::vector<ParallelConfig> all;
  for (const std::string& schedule : schedules_for(c, given, pipeline))
    for (const int64_t pieces : pieces_for(c, given, schedule, pipeline))
      for (int64_t zero = 0; zero <= (data > 1 ? 3 : 0); ++zero) {
        // What the published train.strategy alone asked for is tried like the others.
        if (data > 1 && given.contains("parallel.zero") && c.parallel.zero.value_or(zero) != zero) continue;
        ParallelConfig p = c.parallel;
        p.pipeline = pipeline, p.data.emplace(data), p.schedule = schedule, p.pieces = pieces;
        if (data > 1) p.zero.emplace(zero);
        all.push_back(p);
      }
  return all;
}

}  // namespace

std::string PlannedLayout::options() const {
  const ParallelConfig& p = config.parallel;
  const ParallelConfig defaults;
  std::string text = cat("--parallel.pipeline ", p.pipeline);
  if (p.schedule != defaults.schedule) text += cat(" --parallel.schedule ", p.schedule);
  if (p.pieces != defaults.pieces) text += cat(" --parallel.pieces ", p.pieces);
  if (share.data_ranks > 1) text += cat(" --parallel.zero ", share.sharding.zero);
  const int stages = static_cast<int>(p.pipeline * p.pieces);
  if (stages > 1 && share.partition != balanced_partition(config.model, trained_costs(config), stages))
    text += cat(" --parallel.partition ", text_of(config.model, share.partition));
  return text;
}

PlannedLayout plan_layout(const Config& config, int64_t ranks, const Hardware& hardware, const LayerTimes& times,
                          StageNeeds& needs) {
  PlannedLayout layout{config, {}, {}};
  const ParallelConfig& p = layout.config.parallel;
  RankShare& share = layout.share;
  share.data_ranks = data_ranks(ranks, p.pipeline, p.data);
  share.sharding = {static_cast<int>(p.zero.value_or(1)), p.bucket_mb.value_or(config.train.ds_bucket_mb) << 20};
  share.microbatches = microbatches_per_rank(config.train, share.data_ranks);
  if (!config.train.validation_data_file.empty())
    share.validation_windows =
        std::max<int64_t>(1, (kValidationTokens / config.model.ctx_len + share.data_ranks - 1) / share.data_ranks);
  const size_t program = needs.program(), memory = static_cast<size_t>(hardware.rank.memory);
  const size_t limit = memory > program ? memory - program : 0;
  share.partition = p.partition_is_given()
                        ? given_partition(config.model, *p.partition, static_cast<int>(p.pipeline * p.pieces), p.pieces)
                        : partition_within(layout.config, share, costs_of(config, times), limit, needs);
  layout.forecast = forecast_layout(layout.config, share, times, needs, &hardware);
  layout.forecast.fit(limit);
  layout.fits = layout.forecast.neediest().memory.more() <= limit;
  return layout;
}

std::vector<PlannedLayout> plan_layouts(const Config& config, const GivenKeys& given, int64_t ranks,
                                        const Hardware& hardware, const LayerTimes& times) {
  std::vector<PlannedLayout> all;
  StageNeeds needs(config);
  const int64_t microbatches = config.train.global_batch() / config.train.micro_bsz;
  const ParallelConfig& said = config.parallel;
  for (const int64_t pipeline : divisors(ranks)) {
    const int64_t data = ranks / pipeline;
    if (pipeline > config.model.n_layer || microbatches % data != 0) continue;
    if (given.contains("parallel.pipeline") && said.pipeline != pipeline) continue;
    if (said.data.value_or(data) != data) continue;
    for (const ParallelConfig& p : layouts_of(config, given, pipeline, data)) {
      Config c = config;
      c.parallel = p;
      all.push_back(plan_layout(c, ranks, hardware, times, needs));
    }
  }
  if (all.empty())
    refuse(cat("no layout of ", ranks, ranks == 1 ? " rank" : " ranks",
               " is possible: a pipeline of at most model.n_layer ", config.model.n_layer,
               " ranks, and data ranks that divide the ", microbatches, " microbatches of a step"),
           "another --ranks, more --train.accumulate_grad_batches, or less that the section parallel says");
  std::stable_sort(all.begin(), all.end(), [](const PlannedLayout& a, const PlannedLayout& b) {
    if (a.fits != b.fits) return a.fits;
    if (a.fits) return a.forecast.tokens_per_s > b.forecast.tokens_per_s;
    return a.forecast.neediest().memory.more() < b.forecast.neediest().memory.more();
  });
  return all;
}

}  // namespace gf
