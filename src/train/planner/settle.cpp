// SPDX-License-Identifier: Apache-2.0
#include "train/planner/settle.h"

#include "io/checkpoint/checkpoint_reader.h"
#include "parallel/agreement.h"
#include "train/planner/fitting.h"
#include "train/planner/layer_times.h"

namespace gf {
namespace {

// The first rank's text, on all ranks.
std::string text_of_first(Communicator& world, const std::string& text) {
  return world.gather_text(world.rank() == 0 ? text : "")[0];
}

// The cut that the run's newest checkpoint was made with, where that one is not the program's to find again.
std::string cut_of_checkpoint(const Plan& plan) {
  const auto newest = newest_checkpoint(plan.paths.checkpoints());
  if (!newest) return "";
  const CheckpointReader reader(newest->path);
  const Config then = config_from_text(reader.attributes().config, reader.path().string());
  const ParallelConfig &was = then.parallel, &now = plan.config.parallel;
  const bool alike = was.pipeline == now.pipeline && was.pieces == now.pieces && was.partition_is_given() &&
                     differences_of_models(plan.config, then).empty();
  return alike ? *was.partition : "";
}

// Each rank sees its own times, which differ; their means are the same everywhere.
std::vector<double> mean_costs(const Config& config, Communicator& world, size_t room) {
  constexpr double kSeconds = 0.3;
  std::vector<double> costs;
  all_or_none(world, [&] { costs = costs_of(config, measure_layers(config, kSeconds, room).layers); });
  const Tensor sums = Tensor::of<double>({std::ssize(costs)}, costs);
  world.all_reduce(sums, Reduce::sum);
  for (size_t i = 0; i < costs.size(); ++i) costs[i] = sums.data<double>()[i] / world.size();
  return costs;
}

void take(Plan& plan, const Partition& partition, const std::string& note) {
  plan.partition = partition;
  plan.partition_note = note;
  if (!note.empty()) plan.config.parallel.partition.emplace(text_of(plan.config.model, partition));
}

}  // namespace

void settle_partition(Plan& plan, Communicator& world, size_t room, const Hardware* hardware) {
  const ModelConfig& model = plan.config.model;
  const ParallelConfig& p = plan.config.parallel;
  const bool measured = p.partition && !p.partition_is_given();
  const int stages = static_cast<int>(p.pipeline * p.pieces);
  if (p.partition_is_given() || (stages == 1 && !measured)) return;
  if (stages == 1) return take(plan, plan.partition, "one stage: nothing to cut");
  StageNeeds needs(plan.config);
  std::string kept;
  all_or_none(world, [&] { kept = world.rank() == 0 ? cut_of_checkpoint(plan) : ""; });
  kept = text_of_first(world, kept);
  if (!kept.empty()) {
    RankShare share = plan.share_of(0);
    share.partition = given_partition(model, kept, stages);
    if (needs.all_fit(plan.config, share, room)) return take(plan, share.partition, "as this run began");
  }
  const std::vector<double> costs = !measured  ? trained_costs(plan.config)
                                    : hardware ? costs_of(plan.config, times_on(*hardware, plan.config))
                                               : mean_costs(plan.config, world, room);
  const Partition best = balanced_partition(model, costs, stages),
                  within = partition_within(plan.config, plan.share_of(0), costs, room, needs);
  std::string note = measured ? hardware ? "by the times of parallel.hardware" : "by measured times" : "";
  if (within != best) note += note.empty() ? "by cost, within memory" : ", within memory";
  take(plan, within, note);
}

}  // namespace gf
