// SPDX-License-Identifier: Apache-2.0
#include "train/planner/layer_times.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "base/clock.h"
#include "base/human.h"
#include "base/median.h"
#include "base/random.h"
#include "base/trace.h"
#include "model/initialise.h"
#include "optim/sharded_optimizer.h"
#include "parallel/partition.h"
#include "parallel/stage.h"

namespace gf {
namespace {

using Pass3 = double PassSeconds::*;

// Gives what passes between the beginning and the end of each layer's part of a pass to `take`.
class LayerHooks final : public ParameterHooks {
 public:
  using Take = std::function<void(const LayerSpec&, Pass3, double seconds)>;
  // `begin` starts a measurement, `end` gives it.
  LayerHooks(const LayerStack& layers, std::function<void()> begin, std::function<double()> end, Take take)
      : begin_(std::move(begin)), end_(std::move(end)), take_(std::move(take)) {
    for (size_t i = 0; i < layers.layers().size(); ++i)
      layers_.emplace(layers.ranges()[i].trained.begin, layers.layers()[i]);
  }
  void passes(Pass3 pass) { pass_ = pass; }

  // The taking of weight gradients, put off, has other marks than the passes before it (see LayerStack).
  void before_use(const LayerRange&) override { begin_(); }
  void after_use(const LayerRange& r) override { taken(r); }
  void before_gradients(const LayerRange&) override {
    if (pass_ == &PassSeconds::backward_weight) begin_();
  }
  void gradients_done(const LayerRange& r) override {
    if (pass_ == &PassSeconds::backward_weight) taken(r);
  }

 private:
  void taken(const LayerRange& r) { take_(layers_.at(r.trained.begin), pass_, end_()); }
  std::map<int64_t, LayerSpec> layers_;
  std::function<void()> begin_;
  std::function<double()> end_;
  Take take_;
  Pass3 pass_ = &PassSeconds::forward;
};

// One microbatch through a stage, there and back.
void pass_through(Stage& stage, const Batch& batch, LayerHooks& hooks) {
  hooks.passes(&PassSeconds::forward);
  stage.forward(0, batch, {}, &hooks);
  hooks.passes(&PassSeconds::backward_input);
  stage.backward(0, {}, WeightGradients::later);
  hooks.passes(&PassSeconds::backward_weight);
  stage.backward_weights(0);
}

// Tokens that lie anywhere in the vocabulary.
Batch batch_of(const Config& c, Device device) {
  const Shape shape{c.train.micro_bsz, c.model.ctx_len};
  Batch batch{Tensor::empty(shape, DType::i32, device), Tensor::empty(shape, DType::i32, device),
              std::vector<int64_t>(static_cast<size_t>(c.train.micro_bsz))};
  const Random random(1, "tokens");
  for (int64_t i = 0; device == kCpu && i < shape.numel(); ++i)
    for (const Tensor& t : {batch.inputs_BT, batch.targets_BT})
      t.data<int32_t>()[i] = static_cast<int32_t>(random.bits(i) % static_cast<uint64_t>(c.model.vocab_size));
  return batch;
}

StageOptions options_of(const Config& c, Device device) {
  StageOptions options{.device = device, .recompute = c.train.grad_cp};
  options.loss_scale = 1 / static_cast<double>(c.train.global_batch() * c.model.ctx_len);
  options.gives = 0;
  return options;
}

// So many of each kind that between two uses of a layer's parameters others push them out of the caches, as they do in
// a whole model; all of a small one.
std::vector<LayerSpec> layers_past_caches(const ModelConfig& config) {
  constexpr int64_t kNumbers = int64_t{16} << 20;
  for (int64_t most = 1;; ++most) {
    std::vector<LayerSpec> sample = sample_layers(config, most);
    if (most >= config.n_layer || LayerStack(config, sample).parameters().count() >= kNumbers) return sample;
  }
}

// Values, gradients, two moments, and a pass.
size_t bytes_of_sample(const Config& config, const std::vector<LayerSpec>& layers) {
  LayerStack sample(config.model, layers);
  sample.parameters().allocate(kMeta, DType::f32, ParameterStore::Gradients::zeroed);
  Stage stage(sample, options_of(config, kMeta));
  stage.forward(0, batch_of(config, kMeta), {});
  stage.backward(0, {});
  return 4 * sizeof(float) * static_cast<size_t>(sample.parameters().flat_size()) + stage.activation_bytes();
}

// Seconds a parameter, on gradients that are there.
double measure_update(LayerStack& layers, int rounds) {
  const auto self = make_self_communicator();
  ShardedOptimizer optimizer(layers, *self, {}, {});
  std::vector<double> seconds;
  for (int i = 0; i < rounds + 1; ++i) {
    const Stopwatch watch;
    optimizer.step(0, 0);
    if (i > 0) seconds.push_back(watch.seconds());  // the first one touches its moments for the first time
  }
  return median(seconds) / static_cast<double>(layers.parameters().flat_size());
}

// A key of the section model in which they differ; empty where there is none.
std::string model_difference(const ModelConfig& a, const ModelConfig& b) {
  Config one, other;
  one.model = a, other.model = b;
  const auto all = differences_of_models(one, other);
  return all.empty() ? "" : cat(all[0].key, " ", all[0].then, ", not ", all[0].now);
}

}  // namespace

std::vector<LayerSpec> sample_layers(const ModelConfig& config, int64_t most) {
  std::vector<LayerSpec> sample;
  const LayerTimes which;
  std::map<const PassSeconds*, int64_t> taken;
  for (const LayerSpec& spec : layout_of(config))
    if (++taken[&which.of(config, spec)] <= most) sample.push_back(spec);
  return sample;
}

LayerTimes reckoned_times(const Config& config, const RankSpeed& rank) {
  const Device device = config.train.on_gpu() ? kMetaGpu : kMeta;
  LayerStack sample(config.model, sample_layers(config.model, 1));
  sample.parameters().allocate(device, config.train.computes_in(), ParameterStore::Gradients::zeroed);
  LayerTimes times;
  std::optional<Trace> trace;
  const double flops = rank.flops * rank.product_share;
  const auto end = [&] {
    double seconds = 0;
    for (const Trace::Total& op : trace->totals())
      seconds += std::max(op.flops / flops, op.bytes / rank.memory_bandwidth);
    trace.reset();
    return seconds;
  };
  LayerHooks hooks(
      sample, [&] { trace.emplace(); }, end,
      [&](const LayerSpec& spec, Pass3 pass, double seconds) { times.of(config.model, spec).*pass += seconds; });
  StageOptions options = options_of(config, device);
  options.dtype = config.train.computes_in();
  Stage stage(sample, options);
  pass_through(stage, batch_of(config, device), hooks);
  return times;
}

LayerMeasurement measure_layers(const Config& config, double seconds, size_t room) {
  const std::vector<LayerSpec> layers = layers_past_caches(config.model);
  if (const size_t need = bytes_of_sample(config, layers); need > room)
    refuse(cat("measuring layers takes ", human_bytes(static_cast<double>(need)), " of memory, and there are ",
               human_bytes(static_cast<double>(room))),
           "a smaller --train.micro_bsz, or --train.grad_cp 1");
  LayerStack sample(config.model, layers);
  sample.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::zeroed);
  initialise_roughly(sample.parameters());
  LayerMeasurement result;
  std::map<double*, std::vector<double>> seen;
  Stopwatch layer;
  LayerHooks hooks(
      sample, [&] { layer.lap(); }, [&] { return layer.lap(); },
      [&](const LayerSpec& spec, Pass3 pass, double time) {
        seen[&(result.layers.of(config.model, spec).*pass)].push_back(time);
      });
  Stage stage(sample, options_of(config, kCpu));
  const Batch batch = batch_of(config, kCpu);
  pass_through(stage, batch, hooks);  // touches its memory for the first time
  seen.clear();
  constexpr int kLeast = 3;
  const Stopwatch watch;
  for (int i = 0; i < kLeast || watch.seconds() < seconds; ++i) pass_through(stage, batch, hooks);
  for (const auto& [time, seconds_seen] : seen) *time = median(seconds_seen);
  result.update = measure_update(sample, 5);
  return result;
}

LayerTimes fixed_times(const ModelConfig& config) {
  LayerTimes times;
  const auto layers = layout_of(config);
  const auto costs = layer_costs(config);
  for (size_t i = 0; i < layers.size(); ++i) times.of(config, layers[i]) = {costs[i] / 3, costs[i] / 3, costs[i] / 3};
  return times;
}

std::string why_not_measured(const Hardware& hardware, const Config& config) {
  if (!hardware.measured) return "no layers were measured there";
  if (config.train.on_gpu()) return "they were measured on a CPU";
  const MeasuredTimes& m = *hardware.measured;
  const auto other = [](const char* key, int64_t then, int64_t now) {
    return cat("they were measured with ", key, " ", then, ", not ", now);
  };
  if (m.micro_bsz != config.train.micro_bsz) return other("train.micro_bsz", m.micro_bsz, config.train.micro_bsz);
  if (m.grad_cp != config.train.grad_cp) return other("train.grad_cp", m.grad_cp, config.train.grad_cp);
  const std::string difference = model_difference(config.model, m.model);
  return difference.empty() ? "" : "they were measured with " + difference;
}

LayerTimes times_on(const Hardware& hardware, const Config& config) {
  return why_not_measured(hardware, config).empty() ? hardware.measured->layers : reckoned_times(config, hardware.rank);
}

std::vector<PassSeconds> trained_times(const Config& config, const LayerTimes& times) {
  const auto layers = layout_of(config.model);
  std::vector<PassSeconds> all;
  for (const LayerSpec& spec : layers) all.push_back(times.of(config.model, spec));
  if (config.train.groups.empty()) return all;
  const auto trains = layers_that_train(config.model, config.train.groups.rule());
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!trains[i]) all[i].backward_weight = 0;
    if (!(layers[i].fields.reads & trained_below(layers, trains, i))) all[i].backward_input = 0;
  }
  return all;
}

std::vector<double> costs_of(const Config& config, const LayerTimes& times) {
  std::vector<double> costs;
  for (const PassSeconds& layer : trained_times(config, times)) costs.push_back(layer.all());
  return costs;
}

std::vector<double> trained_costs(const Config& config) {
  return config.train.groups.empty() ? layer_costs(config.model) : costs_of(config, fixed_times(config.model));
}

}  // namespace gf
