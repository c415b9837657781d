// SPDX-License-Identifier: Apache-2.0
#include "train/memory.h"

#include <algorithm>

#include "base/human.h"
#include "base/process_memory.h"
#include "parallel/pipeline.h"

namespace gf {
namespace {

Batch meta_batch(int64_t sequences, int64_t length) {
  const Shape shape{sequences, length};
  return {Tensor::empty(shape, DType::i32, kMeta), Tensor::empty(shape, DType::i32, kMeta),
          std::vector<int64_t>(static_cast<size_t>(sequences))};
}

// Of a forward pass with the loss. The parameters are of the meta device.
size_t evaluation_bytes(const LayerStack& layers, int64_t batch, int64_t length) {
  Arena arena(kMeta);
  Tape tape(arena, Tape::Mode::evaluate);
  const Batch tokens = meta_batch(batch, length);
  layers.head()->loss({tokens}, layers.forward(tape, {tokens}, {}).x_BTC);
  return arena.reserved_bytes();
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

MemoryForecast forecast_memory(const Config& config, int64_t microbatches, int64_t validation_windows) {
  MemoryForecast f;
  f.program = resident_bytes();
  LayerStack layers(config.model);
  layers.parameters().allocate(kMeta, DType::f32, ParameterStore::Gradients::zeroed);
  f.parameters = layers.parameters().values().bytes();
  f.gradients = f.parameters;
  f.optimizer = 2 * f.parameters;
  const auto world = make_self_communicator();
  Stage stage(layers, {kMeta, config.train.grad_cp, 1, 1e-4, 0});
  Pipeline pipeline(stage, *world, find_schedule(config.parallel.schedule));
  // No schedule has more in flight than a few; the passes of one repeat.
  const std::vector<Batch> batches(std::min<int64_t>(microbatches, 8),
                                   meta_batch(config.train.micro_bsz, config.model.ctx_len));
  ParameterHooks nobody;
  pipeline.run(batches, nobody);
  f.activations = stage.activation_bytes();
  f.validation_windows = std::min(validation_windows, config.train.micro_bsz);
  if (f.validation_windows > 0) f.validation = evaluation_bytes(layers, f.validation_windows, config.model.ctx_len);
  return f;
}

void check_memory(const Config& config, const MemoryForecast& f, size_t available) {
  if (f.more() <= available) return;
  const auto text = [](size_t bytes) { return human_bytes(static_cast<double>(bytes)); };
  std::string hint = "a smaller model, or a machine with more memory";
  // From the least change on: recompute, then ever smaller microbatches, of which a step takes more.
  for (int64_t parts = 1; parts <= config.train.micro_bsz; ++parts) {
    if (config.train.micro_bsz % parts != 0) continue;
    Config smaller = config;
    smaller.train.grad_cp = true;
    smaller.train.micro_bsz /= parts;
    smaller.train.accumulate_grad_batches *= parts;
    const size_t need = forecast_memory(smaller, 2, f.validation_windows).more();
    if (need > available) continue;
    hint = "--train.grad_cp 1";
    if (parts > 1)
      hint += cat(" --train.micro_bsz ", smaller.train.micro_bsz, " --train.accumulate_grad_batches ",
                  smaller.train.accumulate_grad_batches);
    hint += cat(", which needs ", text(need));
    break;
  }
  refuse(cat("the run needs ", text(f.more()), " of memory, and there are ", text(available)), hint);
}

void check_evaluation_memory(const ModelConfig& config, int64_t batch, int64_t length, const std::string& hint) {
  LayerStack layers(config);
  layers.parameters().allocate(kMeta, DType::f32, ParameterStore::Gradients::none);
  const size_t need = evaluation_bytes(layers, batch, length), available = available_bytes();
  if (need > available)
    refuse(cat(batch, batch == 1 ? " window of " : " windows of ", length, " tokens take ",
               human_bytes(static_cast<double>(need)), " of memory, and there are ",
               human_bytes(static_cast<double>(available))),
           hint);
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
