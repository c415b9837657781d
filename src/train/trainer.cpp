// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/clock.h"
#include "base/trace.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "parallel/agreement.h"
#include "tensor/arithmetic.h"
#include "train/evaluate.h"

namespace gf {
namespace {

bool all_finite(const Tensor& t) {
  return std::isfinite(sum_of_squares(t));
}

// For a message, which a file system that does not answer must not take the place of.
std::string newest_saved(const std::filesystem::path& checkpoints) {
  try {
    const auto newest = newest_checkpoint(checkpoints);
    return newest ? "the newest checkpoint is " + newest->path.string() : "no checkpoint was saved yet";
  } catch (const std::exception& e) {
    return cat("which checkpoint is the newest cannot be told: ", e.what());
  }
}

}  // namespace

StepMetrics Trainer::step(const std::function<Wishes()>& wishes) {
  const Stopwatch watch;
  Place& place = run_.place;
  const HangWatch::Doing doing(run_.watch, cat("step ", place.step));
  const TraceSpan whole(Trace::Kind::step, [&] {
    return Trace::What{.name = "step", .numbers = {{"step", place.step}}};
  });
  const std::vector<Batch> microbatches = next_microbatches();  // token shard
  whole_ = false;
  StepMetrics metrics;
  if (run_.plan.config.train.loss_mask) metrics.targets = agree_on_targets(microbatches);

  // Stages, loss, gradients; which the optimizer reduces as they finish. A GPU is waited for once, when it has been
  // told all that needs no answer.
  run_.model.pipeline().run_passes(microbatches, *run_.optimizer);
  run_.optimizer->finish_gradients();
  metrics.step = place.step;
  const double own_loss = run_.model.pipeline().take_loss();
  metrics.loss = agree(own_loss, wishes());
  learn(metrics, microbatches);  // sharded optimizer

  ++place.step;
  place.samples = run_.tokens->samples_seen();
  whole_ = true;
  metrics.tokens = place.step * run_.plan.tokens_per_step;
  metrics.step_s = watch.seconds();
  metrics.tokens_per_s = static_cast<double>(run_.plan.tokens_per_step) / metrics.step_s;
  if (validation_due(place)) validate(metrics);
  write_metrics(metrics);
  if (save_due()) save();  // checkpoint
  return metrics;
}

// Where it fails, the step was taken all the same.
void Trainer::validate(StepMetrics& metrics) {
  const TraceSpan span("validation");
  const Stopwatch watch;
  try {
    const Evaluation e = evaluate(run_.model.pipeline(), *run_.optimizer, run_.mesh, *run_.plan.validation,
                                  run_.plan.validation_windows, run_.plan.config.train.micro_bsz);
    metrics.val_loss = e.loss;
    metrics.val_acc = e.accuracy;
    validation_seconds_ = watch.seconds();
  } catch (const Error&) {
    write_metrics(metrics);
    throw;
  }
}

// The first rank alone cannot end the run: what fails here is told with the next thing that all ranks agree on.
void Trainer::write_metrics(const StepMetrics& metrics) {
  if (!run_.metrics || metrics_error_) return;
  const HangWatch::Doing doing(run_.watch, cat("writing ", run_.plan.paths.metrics().string()));
  try {
    run_.metrics->append(metrics);
  } catch (const Error&) {
    metrics_error_ = std::current_exception();
  }
}

void Trainer::check_metrics() const {
  all_or_none(*run_.mesh.world, [&] {
    if (metrics_error_) std::rethrow_exception(metrics_error_);
  });
}

// Every rank has the same loss, norm and past, and so decides alike.
void Trainer::learn(StepMetrics& metrics, std::span<const Batch> microbatches) {
  const Schedule& schedule = run_.plan.schedule;
  metrics.lr = schedule.learning_rate(metrics.step);
  const bool nothing_counts = metrics.targets == 0;
  const auto accepts = [&](double norm) {
    metrics.skipped =
        nothing_counts ? "no token of its samples is marked by the loss mask" : run_.spikes.judge({metrics.loss, norm});
    if (metrics.skipped.empty()) run_.checkpoints->before_change();
    return metrics.skipped.empty();
  };
  const auto update = run_.optimizer->step(metrics.lr, schedule.weight_decay_at(metrics.step), accepts);
  metrics.grad_norm = update.grad_norm;
  if (update.applied) {
    run_.spikes.add({metrics.loss, metrics.grad_norm});
    run_.skipped = 0;
    return;
  }
  if (nothing_counts) metrics.loss = std::nan("");  // there is no mean of nothing
  constexpr int64_t kMostSkipped = 10;              // in a row: then it is not the data
  if (run_.plan.config.train.bad_step == "stop" && !nothing_counts) explain_bad_step(metrics.skipped, microbatches);
  if (++run_.skipped == kMostSkipped)
    explain_bad_step(cat(kMostSkipped, " steps in a row are bad; ", metrics.skipped), microbatches);
  run_.optimizer->skip();
}

// With a mask the loss is the mean over what it marks in the whole step, and each pass needs to know that number before
// it begins: the head makes its gradients with its loss. Whole numbers, so that their sum has no order.
int64_t Trainer::agree_on_targets(std::span<const Batch> microbatches) const {
  double own = 0;
  if (run_.model.pipeline().has_head())
    for (const Batch& b : microbatches) own += static_cast<double>(count_targets(b.targets_BT, b.masked));
  const Tensor sum = Tensor::of<double>({1}, {own});
  run_.mesh.world->all_reduce(sum, Reduce::sum);
  const double targets = sum.data<double>()[0];
  run_.model.pipeline().set_loss_scale(1 / std::max(targets, 1.0));
  return static_cast<int64_t>(targets);
}

// What every rank has to know of the others at the end of a step, at once: the loss, which the last stages have, what
// any rank wishes, and how far the save under way is. -> the loss.
double Trainer::agree(double own_loss, const Wishes& wishes) {
  const TraceSpan span("agree");
  const auto [busy, failed] = run_.checkpoints->progress();
  const Tensor all = Tensor::of<double>({5}, {own_loss, wishes.stop ? 1.0 : 0.0, wishes.save ? 1.0 : 0.0,
                                              static_cast<double>(busy), static_cast<double>(failed)});
  run_.mesh.world->all_reduce(all, Reduce::sum);
  const double* const sums = all.data<double>();
  stop_agreed_ = sums[1] > 0;
  save_agreed_ = sums[2] > 0;
  run_.checkpoints->proceed({static_cast<int>(sums[3]), static_cast<int>(sums[4])});
  note_saved();
  return sums[0];
}

void Trainer::note_saved() {
  const int64_t saved = run_.checkpoints->saved_step().value_or(-1);
  if (saved <= run_.saved_step) return;
  run_.saved_step = saved;
  save_seconds_ = largest(*run_.mesh.world, run_.checkpoints->seconds());
}

std::vector<Batch> Trainer::next_microbatches() {
  const TraceSpan span("data");
  const HangWatch::Doing doing(run_.watch, "reading its samples");
  std::vector<Batch> microbatches;
  all_or_none(*run_.mesh.world, [&] {
    if (metrics_error_) std::rethrow_exception(metrics_error_);
    for (int64_t m = 0; m < run_.plan.microbatches; ++m) microbatches.push_back(run_.tokens->next());
  });
  return microbatches;
}

// Of a checkpoint, as far as this rank has it.
std::vector<ShardView> Trainer::state() const {
  std::vector<ShardView> all = run_.optimizer->parameters();
  if (run_.plan.config.train.train_stage == 1) return all;
  for (ShardView& v : run_.optimizer->moments()) all.push_back(std::move(v));
  return all;
}

double Trainer::save_bytes() const {
  double bytes = 0;
  for (const ShardView& v : state()) bytes += static_cast<double>(v.bytes());
  return bytes;
}

void Trainer::save() {
  const Place& place = run_.place;
  if (std::max(run_.saved_step, save_begun_) == place.step) return;
  finish_saving();
  const TraceSpan span("save");
  Attributes attributes;
  attributes.program = "gf-dist-train " GF_VERSION;
  attributes.config = to_yaml(run_.plan.config);
  if (run_.plan.data) attributes.data = run_.plan.data->identity();
  attributes.step = place.step;
  attributes.updates = run_.optimizer->updates();
  attributes.samples = place.samples;
  attributes.tokens = place.step * run_.plan.tokens_per_step;
  const bool before = std::exchange(whole_, false);
  run_.checkpoints->begin(
      attributes, state(), run_.save_mode, [this, metrics = metrics_error_ ? nullptr : run_.metrics.get()] {
        if (!metrics) return;
        const HangWatch::Doing doing(run_.watch, cat("writing ", run_.plan.paths.metrics().string(), " to its disk"));
        metrics->sync();
      });
  whole_ = before;
  save_begun_ = place.step;
}

void Trainer::finish_saving() {
  const TraceSpan span("finish saving");
  const bool before = std::exchange(whole_, false);
  run_.checkpoints->finish();
  whole_ = before;
  note_saved();
}

// Whether the step that came to this place ended an epoch whose number, from 1, is a multiple of `epochs`.
bool Trainer::epoch_ended(const Place& place, int64_t epochs) const {
  const int64_t samples = place.samples, before = samples - run_.plan.config.train.global_batch();
  return epochs > 0 && samples / (epochs * kSamplesPerEpoch) != before / (epochs * kSamplesPerEpoch);
}

bool Trainer::validation_due(const Place& place) const {
  if (!run_.plan.validation) return false;
  const TrainConfig& t = run_.plan.config.train;
  if (place.step == run_.plan.schedule.steps()) return true;
  if (!t.val_check_interval) return epoch_ended(place, t.check_val_every_n_epoch);
  const int64_t epoch = (place.samples - 1) / kSamplesPerEpoch + 1;
  return place.step % *t.val_check_interval == 0 && epoch % t.check_val_every_n_epoch == 0;
}

int Trainer::validations_within(int64_t steps) const {
  int due = 0;
  Place place = run_.place;
  for (; steps > 0 && place.step < run_.plan.last_step; --steps) {
    ++place.step;
    place.samples += run_.plan.config.train.global_batch();
    due += validation_due(place) ? 1 : 0;
  }
  return due;
}

bool Trainer::save_due() const {
  const TrainConfig& t = run_.plan.config.train;
  return save_agreed_ || epoch_ended(run_.place, t.epoch_save) ||
         (t.save_every_steps > 0 && run_.place.step % t.save_every_steps == 0);
}

// Nothing was updated, so the same pass can be looked at again, layer by layer.
void Trainer::explain_bad_step(const std::string& what, std::span<const Batch> microbatches) {
  finish_saving();
  std::string where = first_bad_layer(microbatches);
  if (where.empty()) where = last_bad_gradient();
  all_or_none(*run_.mesh.world, [&] {
    fail(cat("step ", run_.place.step, ": ", what, where),
         cat("a smaller --train.lr_init, more --train.warmup_steps, or a smaller --train.gradient_clip_val; ",
             newest_saved(run_.plan.paths.checkpoints())));
  });
  fail("all ranks agreed that nothing was wrong");
}

// For a message; empty where all is finite.
std::string Trainer::first_bad_layer(std::span<const Batch> microbatches) const {
  const auto layers = layout_of(run_.plan.config.model);
  const auto none = std::ssize(layers);
  auto first = none;
  const auto look = [&](const std::string& name, const Flow& flow) {
    const auto found = std::find_if(layers.begin(), layers.end(), [&](const LayerSpec& l) { return l.name() == name; });
    if (found - layers.begin() < first && !all_finite(flow.x_BTC.value())) first = found - layers.begin();
  };
  const Stage::Sums sums = run_.model.pipeline().evaluate(
      std::ssize(microbatches), [&](int64_t i) { return microbatches[i]; }, *run_.optimizer, look);
  if (first == none && !std::isfinite(sums.loss)) first = none - 1;  // the head
  const auto of_all = static_cast<int64_t>(-largest(*run_.mesh.world, static_cast<double>(-first)));
  return of_all == none ? "" : cat("; ", layers[of_all].name(), " is the first layer whose output is not finite");
}

// The backward pass went from the last parameter to the first.
std::string Trainer::last_bad_gradient() const {
  const std::vector<std::string> names = parameter_names(run_.plan.config.model);
  int64_t last = -1;
  for (const auto& p : run_.model.parameters().all())
    if (!p->frozen() && !all_finite(p->grad()))
      last = std::max<int64_t>(last, std::find(names.begin(), names.end(), p->name()) - names.begin());
  last = static_cast<int64_t>(largest(*run_.mesh.world, static_cast<double>(last)));
  return last < 0 ? "" : cat("; the gradient of ", names[last], " is the first that is not finite");
}

}  // namespace gf
