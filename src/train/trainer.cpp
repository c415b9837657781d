// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/trace.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "tensor/arithmetic.h"
#include "train/evaluate.h"

namespace gf {
namespace {

bool all_finite(const Tensor& t) {
  return std::isfinite(sum_of_squares(t));
}

}  // namespace

StepMetrics Trainer::step() {
  const Stopwatch watch;
  Place& place = run_.place;
  const std::vector<Batch> microbatches = next_microbatches();  // token shard

  // Stages, loss, gradients; which the optimizer reduces as they finish.
  const double loss = run_.pipeline->run(microbatches, *run_.optimizer);
  const Schedule& schedule = run_.plan.schedule;
  const double lr = schedule.learning_rate(place.step);
  if (!std::isfinite(loss)) explain_bad_step(loss, loss, microbatches);
  const auto update = run_.optimizer->step(lr, schedule.weight_decay_at(place.step));  // sharded optimizer
  if (!update.applied) explain_bad_step(loss, update.grad_norm, microbatches);

  ++place.step;
  place.samples = run_.tokens->samples_seen();
  StepMetrics metrics{
      place.step - 1, place.step * run_.plan.tokens_per_step, loss, update.grad_norm, lr, watch.seconds(), 0, {}, {}};
  metrics.tokens_per_s = static_cast<double>(run_.plan.tokens_per_step) / metrics.step_s;
  if (validation_due()) {
    const TraceSpan span("validation");
    const Evaluation e =
        evaluate(run_.layers, *run_.plan.validation, run_.plan.validation_windows, run_.plan.config.train.micro_bsz);
    metrics.val_loss = e.loss;
    metrics.val_acc = e.accuracy;
  }
  run_.metrics->append(metrics);
  if (save_due()) save();  // checkpoint
  return metrics;
}

// Data that turns out to be wrong in the middle of a run ends it, but loses no step.
std::vector<Batch> Trainer::next_microbatches() {
  const TraceSpan span("data");
  std::vector<Batch> microbatches;
  try {
    for (int64_t m = 0; m < run_.plan.microbatches; ++m) microbatches.push_back(run_.tokens->next());
  } catch (const Error&) {
    if (run_.place.step > run_.plan.first_step) save();
    throw;
  }
  return microbatches;
}

void Trainer::save() {
  const Stopwatch watch;
  const Place& place = run_.place;
  const auto newest = newest_checkpoint(run_.plan.paths.checkpoints());
  if (newest && newest->step == place.step) return;
  const TraceSpan span("save");
  if (run_.metrics) run_.metrics->sync();
  std::vector<ShardView> state = run_.optimizer->parameters();
  if (run_.plan.config.train.train_stage != 1)
    for (ShardView& v : run_.optimizer->moments()) state.push_back(std::move(v));
  Attributes attributes;
  attributes.program = "gf-dist-train " GF_VERSION;
  attributes.config = to_yaml(run_.plan.config);
  attributes.step = place.step;
  attributes.samples = place.samples;
  attributes.tokens = place.step * run_.plan.tokens_per_step;
  run_.checkpoints->write(attributes, state);
  saved_step_ = place.step;
  save_seconds_ = watch.seconds();
}

// Whether the step just taken ended an epoch whose number, from 1, is a multiple of `epochs`.
bool Trainer::epoch_ended(int64_t epochs) const {
  const int64_t samples = run_.place.samples, before = samples - run_.plan.config.train.global_batch();
  return epochs > 0 && samples / (epochs * kSamplesPerEpoch) != before / (epochs * kSamplesPerEpoch);
}

bool Trainer::validation_due() const {
  if (!run_.plan.validation) return false;
  const TrainConfig& t = run_.plan.config.train;
  if (run_.place.step == run_.plan.schedule.steps()) return true;
  if (!t.val_check_interval) return epoch_ended(t.check_val_every_n_epoch);
  const int64_t epoch = (run_.place.samples - 1) / kSamplesPerEpoch + 1;
  return run_.place.step % *t.val_check_interval == 0 && epoch % t.check_val_every_n_epoch == 0;
}

bool Trainer::save_due() const {
  const TrainConfig& t = run_.plan.config.train;
  return epoch_ended(t.epoch_save) || (t.save_every_steps > 0 && run_.place.step % t.save_every_steps == 0);
}

// Nothing was updated, so the same pass can be looked at again, layer by layer.
void Trainer::explain_bad_step(double loss, double norm, std::span<const Batch> microbatches) {
  std::string where;
  for (const Batch& batch : microbatches) {
    if (!where.empty()) break;
    where = first_bad_layer(batch);
  }
  // The backward pass went from the last parameter to the first.
  const auto& parameters = run_.layers.parameters().all();
  const auto bad =
      std::find_if(parameters.rbegin(), parameters.rend(), [](const auto& p) { return !all_finite(p->grad()); });
  if (where.empty() && bad != parameters.rend())
    where = cat("; the gradient of ", (*bad)->name(), " is the first that is not finite");
  const auto newest = newest_checkpoint(run_.plan.paths.checkpoints());
  // NaN has a sign that means nothing.
  const std::string values = std::isfinite(loss) ? cat("the loss is ", loss, ", the gradient's norm ", std::fabs(norm))
                                                 : cat("the loss is ", std::isnan(loss) ? "nan" : "infinite");
  fail(cat("step ", run_.place.step, ": ", values, where),
       cat("a smaller --train.lr_init, more --train.warmup_steps, or a smaller --train.gradient_clip_val; ",
           newest ? "the newest checkpoint is " + newest->path.string() : "no checkpoint was saved yet"));
}

// For a message; empty where all is finite.
std::string Trainer::first_bad_layer(const Batch& batch) const {
  Arena arena(run_.layers.parameters().values().device());
  Tape tape(arena, Tape::Mode::evaluate);
  std::string first;
  const auto look = [&](const std::string& layer, const Tensor& output) {
    if (first.empty() && !all_finite(output))
      first = cat("; ", layer, " is the first layer whose output is not finite");
  };
  // With the step's own dropout, which its seed and the samples' numbers bring back.
  const Pass pass{batch, true, 1, 0, static_cast<uint64_t>(run_.plan.config.train.seed_everything)};
  const Flow flow = run_.layers.forward(tape, pass, {}, false,
                                        [&](const std::string& layer, const Flow& f) { look(layer, f.x_BTC.value()); });
  if (first.empty()) look("head", run_.layers.head()->loss(pass, flow.x_BTC).losses_BT);
  return first;
}

}  // namespace gf
