// SPDX-License-Identifier: Apache-2.0
#include "train/memory.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/human.h"
#include "optim/buckets.h"
#include "parallel/pipeline.h"

namespace gf {
namespace {

Batch meta_batch(Device device, int64_t sequences, int64_t length, bool masked) {
  const Shape shape{sequences, length};
  return {Tensor::empty(shape, DType::i32, device), Tensor::empty(shape, DType::i32, device),
          std::vector<int64_t>(static_cast<size_t>(sequences)), masked};
}

// Of a forward pass, with the loss where the head is. The parameters are of a meta device.
size_t evaluation_bytes(LayerStack& layers, BoundaryShape in, int64_t batch, int64_t length, bool masked) {
  const Device device = layers.parameters().values().device();
  Arena arena(device), boundaries(device);
  Stage stage(layers, {.device = device});
  in.B = batch, in.T = length;
  Stage::Sums nothing;
  stage.evaluate(arena, meta_batch(device, batch, length, masked), in.empty(boundaries), nothing);
  return arena.reserved_bytes();
}

size_t bytes_of(int64_t numbers) {
  return static_cast<size_t>(numbers) * sizeof(float);
}

// Of the buckets that layers are gathered into (see buckets_of) the most numbers that one has; `padded` is what a layer
// takes in the flat buffers.
struct LargestBucket {
  int64_t trained = 0, values = 0;
};
LargestBucket largest_bucket(const std::vector<StageNeed>& stages, int64_t bucket_bytes,
                             const std::function<int64_t(int64_t)>& padded) {
  LargestBucket largest;
  for (const StageNeed& s : stages) {
    int64_t trained = 0, values = 0;
    for (const StageNeed::Numbers& layer : s.numbers) {
      if (layer.shared || !takes_more(values, bucket_bytes)) trained = values = 0;
      trained += padded(layer.trained), values += padded(layer.trained) + padded(layer.frozen);
      largest.trained = std::max(largest.trained, trained);
      if (!layer.shared) largest.values = std::max(largest.values, values);  // else always there
      if (layer.shared) trained = values = 0;
    }
  }
  return largest;
}

// What an optimizer keeps in memory of `all` numbers, of which some are `shared` by stages, at most at a time.
struct OptimizerBytes {
  size_t parameters, gradients, moments;  // parameters: values, and masters where these are bf16
};
OptimizerBytes sharded_bytes(const TrainConfig& config, const StageNeed::Numbers& all, const StageNeed::Numbers& shared,
                             const LargestBucket& largest, const RankShare& share) {
  const int zero = share.data_ranks > 1 ? share.sharding.zero : 0;
  // Of one bucket in use and one on its way the others' parts are here too. What stages share stays whole, the values
  // always and the gradients to the end of a step.
  const auto some = [&](int64_t n, int64_t whole, int64_t bucket) {
    return std::min(n, whole + (n - whole + 2 * bucket * (share.data_ranks - 1)) / share.data_ranks);
  };
  const int64_t values = all.trained + all.frozen, trained = all.trained;
  const size_t moments = 2 * bytes_of(zero >= 1 ? trained / share.data_ranks : trained);
  if (config.on_gpu()) {  // what is given away there only loses its values
    const size_t masters = bytes_of(zero >= 1 ? values / share.data_ranks : values);
    const bool rounded = config.computes_in() == DType::bf16;
    return {rounded ? bytes_of(values) / 2 + masters : bytes_of(values), bytes_of(trained), moments};
  }
  return {bytes_of(zero == 3 ? some(values, shared.trained + shared.frozen, largest.values) : values),
          bytes_of(zero >= 2 ? some(trained, shared.trained, largest.trained) : trained), moments};
}

// How many parameters a model would have that is as this one but narrower, and for which there is `room`: what is kept
// of each parameter shrinks with their number, the rest with the width, as the root of that. 0: there is none.
double parameters_within(double room, const MemoryForecast& f, double parameters) {
  const auto kept = static_cast<double>(f.parameters + f.gradients + f.optimizer + f.reductions);
  const auto fixed = f.on_gpu ? 0.0 : static_cast<double>(f.libraries + f.spare);
  const double others = static_cast<double>(f.more()) - kept - fixed, left = room - fixed;
  if (left <= 0) return 0;
  const double width = (std::sqrt(others * others + 4 * kept * left) - others) / (2 * kept);
  return width * width * parameters;
}

std::string kind_of(const LayerSpec& spec, const ModelConfig& config) {
  switch (spec.kind) {
    case LayerSpec::Kind::embed:
      return "embedding";
    case LayerSpec::Kind::block:
      return config.time_mix(spec.block) + " + " + config.channel_mix(spec.block);
    case LayerSpec::Kind::key_compress:
    case LayerSpec::Kind::key_expand:
      return "key cache";
    case LayerSpec::Kind::head:
      return "head";
  }
  return {};
}

}  // namespace

StageNeed need_of_stage(const Config& config, size_t begin, size_t end, int64_t validation_windows) {
  StageNeed need;
  const Partition stage_cuts{{begin, end}};
  const DType dtype = config.train.computes_in();
  const auto cuts = boundary_shapes(config.model, stage_cuts, config.train.micro_bsz, dtype);
  const TuningRule rule = config.train.groups.rule();
  const auto gradients =
      gradient_shapes(config.model, stage_cuts, config.train.micro_bsz, dtype, layers_that_train(config.model, rule));
  LayerStack layers(config.model, stage_layers(layout_of(config.model), begin, end),
                    std::make_shared<ParameterStore>(ParameterStore::kAlign, rule));
  const Device device = config.train.on_gpu() ? kMetaGpu : kMeta;
  layers.parameters().allocate(device, dtype, ParameterStore::Gradients::zeroed);
  for (size_t i = 0; i < layers.layers().size(); ++i) {
    const LayerRange& range = layers.ranges()[i];
    const bool shared = layers.layers()[i].kind == LayerSpec::Kind::key_expand;
    need.numbers.push_back({range.trained.size(), range.frozen.size(), shared});
    if (shared) need.shared = need.numbers.back();
  }
  need.tensors = std::ssize(layers.parameters().all());
  StageOptions options{.device = device, .dtype = dtype, .recompute = config.train.grad_cp};
  options.gives = cuts[1].fields;
  options.gradients = gradients[0].fields;
  Stage stage(layers, options);
  const Batch batch = meta_batch(device, config.train.micro_bsz, config.model.ctx_len, config.train.loss_mask);
  Arena boundaries(device);
  const Boundary in = cuts[0].empty(boundaries), up = stage.forward(0, batch, in);
  need.goes_back = stage.goes_back();
  if (need.goes_back) stage.backward(0, gradients[1].empty(boundaries));
  need.pass = stage.activation_bytes();
  for (const Boundary& b : {in, up})
    for (const Tensor& t : tensors_of(b)) need.pass += t.bytes();
  if (validation_windows > 0)
    need.validation =
        evaluation_bytes(layers, cuts[0], validation_windows, config.model.ctx_len, config.train.loss_mask);
  return need;
}

MemoryForecast forecast_memory(const Config& config, const RankShare& share, const std::vector<StageNeed>& stages) {
  MemoryForecast f;
  f.on_gpu = config.train.on_gpu();
  f.validation_windows = std::min(share.validation_windows, config.train.micro_bsz);
  f.validates_after_saving = share.validates_after_saving;
  const int64_t multiple = Sharding::layer_multiple(share.data_ranks, share.sharding.zero);
  const auto padded = [&](int64_t n) { return (n + multiple - 1) / multiple * multiple; };
  StageNeed::Numbers numbers, shared;
  // Of all pieces the largest, as many times as the schedule keeps passes in flight: their arenas are used in turn.
  size_t pass = 0;
  int64_t tensors = 0;
  bool goes_back = false;
  for (const StageNeed& s : stages) {
    for (const auto& [trained, frozen, of_several] : s.numbers)
      numbers.trained += padded(trained), numbers.frozen += padded(frozen);
    numbers.trained -= padded(s.shared.trained), numbers.frozen -= padded(s.shared.frozen);
    shared.trained = std::max(shared.trained, padded(s.shared.trained));
    shared.frozen = std::max(shared.frozen, padded(s.shared.frozen));
    goes_back = goes_back || s.goes_back;
    tensors += s.tensors;
    pass = std::max(pass, s.pass);
    f.validation = std::max(f.validation, s.validation);
  }
  const PipeShape shape{static_cast<int>(config.parallel.pipeline), share.stage, static_cast<int>(share.microbatches),
                        static_cast<int>(config.parallel.pieces)};
  const int in_flight = goes_back ? peak_in_flight(find_schedule(config.parallel.schedule).plan(shape)) : 1;
  f.activations = pass * static_cast<size_t>(in_flight);
  numbers.trained += shared.trained, numbers.frozen += shared.frozen;
  const LargestBucket largest = largest_bucket(stages, share.sharding.bucket_bytes, padded);
  const auto bytes = sharded_bytes(config.train, numbers, shared, largest, share);
  f.parameters = bytes.parameters, f.gradients = bytes.gradients, f.optimizer = bytes.moments;
  if (share.data_ranks > 1) f.reductions = bytes_of(largest.trained);
  // Stages sum up what they share once more, each data rank its part.
  if (config.parallel.pipeline > 1) f.reductions += bytes_of(shared.trained / share.data_ranks);
  // With both moments. Fresh parameters alone are saved before there is anything else to do.
  const size_t saved = bytes_of((3 * numbers.trained + numbers.frozen) / share.data_ranks);
  f.copy = config.train.train_stage == 1 ? 0 : saved;
  // The first rank indexes the tensors of all stages, which have about as many each.
  constexpr size_t kIndexed = 75'000;  // bytes of HDF5's, of a tensor and its two moments
  f.saving = kIndexed * static_cast<size_t>(tensors * config.parallel.pipeline);
  return f;
}

MemoryForecast forecast_memory(const Config& config, const RankShare& share) {
  const std::vector<size_t>& cuts = share.partition.cuts;
  std::vector<StageNeed> stages;
  for (size_t s = share.stage; s + 1 < cuts.size(); s += config.parallel.pipeline)
    stages.push_back(
        need_of_stage(config, cuts[s], cuts[s + 1], std::min(share.validation_windows, config.train.micro_bsz)));
  MemoryForecast f = forecast_memory(config, share, stages);
  f.program = resident_bytes();
  return f;
}

void check_memory(const Config& config, const RankShare& share, const MemoryForecast& f,
                  const AvailableMemory& available) {
  if (f.more() <= available.bytes) return;
  const auto text = [](size_t bytes) { return human_bytes(static_cast<double>(bytes)); };
  std::string hint, settings;
  MemoryForecast least = f;
  // From the least change on: recompute, then ever smaller microbatches, of which a step takes more.
  for (int64_t parts = 1; parts <= config.train.micro_bsz; ++parts) {
    if (config.train.micro_bsz % parts != 0) continue;
    Config smaller = config;
    smaller.train.grad_cp = true;
    smaller.train.micro_bsz /= parts;
    smaller.train.accumulate_grad_batches *= parts;
    RankShare same = share;
    same.microbatches *= parts;
    same.validation_windows = f.validation_windows;
    MemoryForecast smaller_forecast = forecast_memory(smaller, same);
    smaller_forecast.fit(available.bytes);
    const size_t need = smaller_forecast.more();
    settings = "--train.grad_cp 1";
    if (parts > 1)
      settings += cat(" --train.micro_bsz ", smaller.train.micro_bsz, " --train.accumulate_grad_batches ",
                      smaller.train.accumulate_grad_batches);
    least = smaller_forecast;
    if (need > available.bytes) continue;
    hint = cat(settings, ", which needs ", text(need));
    break;
  }
  const std::string what = cat("the run needs ", text(f.more()), " of memory, and ", available.text());
  if (!hint.empty()) refuse(what, available.hint(f.more(), hint));
  const double parameters = parameters_within(static_cast<double>(available.bytes), least,
                                              static_cast<double>(LayerStack(config.model).parameters().count()));
  const bool other = least.more() < f.more();           // settings
  if (parameters < 1 && available.address_space > 0) {  // no model is small enough
    hint = cat("a higher limit on address space (ulimit -v ", available.limit_for(f.more()), ")");
    if (other) hint += cat(", or ", available.limit_for(least.more()), " with ", settings);
    refuse(what, hint + (omp_get_max_threads() > 1 ? ", or fewer threads (OMP_NUM_THREADS)" : ""));
  }
  hint = parameters < 1 ? std::string("a smaller model")
                        : cat("a model of at most about ", human_count(parameters), " parameters",
                              other ? " with " + settings : "");
  refuse(what, available.hint(f.more(), hint + ", or a machine with more memory"));
}

size_t evaluation_bytes(const ModelConfig& config, int64_t batch, int64_t length, bool masked) {
  LayerStack layers(config);
  layers.parameters().allocate(kMeta, DType::f32, ParameterStore::Gradients::none);
  return evaluation_bytes(layers, {}, batch, length, masked);
}

void check_evaluation_memory(const ModelConfig& config, int64_t batch, int64_t length, const std::string& hint,
                             bool masked) {
  const size_t need = evaluation_bytes(config, batch, length, masked);
  const AvailableMemory available = available_memory();
  if (need > available.bytes)
    refuse(cat(batch, batch == 1 ? " window of " : " windows of ", length, " tokens take ",
               human_bytes(static_cast<double>(need)), " of memory, and ", available.text()),
           available.hint(need, hint));
}

std::vector<LayerCount> count_parameters(const ModelConfig& config) {
  struct Kind {
    LayerCount count;
    int64_t layers;
  };
  std::vector<Kind> kinds;
  for (const LayerSpec& spec : layout_of(config)) {
    const std::string kind = kind_of(spec, config);
    auto it = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& k) { return k.count.kind == kind; });
    if (it == kinds.end()) it = kinds.insert(it, {{kind, 0}, 0});
    it->count.parameters += LayerStack(config, {spec}).parameters().count();
    if (spec.kind == LayerSpec::Kind::block) ++it->layers;
  }
  std::vector<LayerCount> counts;
  for (Kind& k : kinds) {
    if (k.layers > 0) k.count.kind = cat(k.layers, " x ", k.count.kind);
    counts.push_back(std::move(k.count));
  }
  return counts;
}

}  // namespace gf
