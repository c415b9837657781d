// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/costs.h"

#include <cmath>

#include "base/error.h"
#include "base/trace.h"
#include "model/keep.h"
#include "parallel/stage.h"

namespace gf {

int64_t parameters_of(const ModelConfig& config) {
  return LayerStack(config).parameters().count();
}

double training_flops(const ModelConfig& config) {
  LayerStack layers(config);
  layers.parameters().allocate(kMeta, DType::f32, ParameterStore::Gradients::zeroed);
  Stage stage(layers, {.device = kMeta});
  const Shape shape{1, config.ctx_len};
  const Batch batch{Tensor::empty(shape, DType::i32, kMeta), Tensor::empty(shape, DType::i32, kMeta), {0}};
  const Trace trace;
  stage.forward(0, batch, {});
  stage.backward(0, {});
  double flops = 0;
  for (const Trace::Total& op : trace.totals()) flops += op.flops;
  return flops / static_cast<double>(config.ctx_len);
}

double cache_bytes(const ModelConfig& config) {
  return static_cast<double>(bytes_a_position(config, {.expanded = false, .cache = DType::bf16}));
}

constexpr int64_t kUnit = 32;  // of dim_ffn

bool can_be_matched(const ModelConfig& config) {
  ModelConfig wider = config;
  wider.dim_ffn += kUnit;
  return parameters_of(wider) != parameters_of(config);
}

int64_t matching_width(const ModelConfig& config, const PlannedVariant& like, Ablation::Match match) {
  const bool params = match == Ablation::Match::params;
  const auto cost = [&](const ModelConfig& c) {
    return params ? static_cast<double>(parameters_of(c)) : training_flops(c);
  };
  const auto with = [&](int64_t dim_ffn) {
    ModelConfig other = config;
    other.dim_ffn = dim_ffn;
    return cost(other);
  };
  const double want = cost(like.config.model), have = cost(config);
  const auto wanted = [&] {
    return cat("match wants ", want, params ? " parameters" : " operations a token", ", as variant ", like.name,
               " has");
  };
  if (!can_be_matched(config)) {
    if (have == want) return config.dim_ffn;
    refuse(cat(wanted(), ", and it has ", have,
               ", which dim_ffn does not change: the llama channel mixer has its own width"),
           "one such variant, to which the others are matched; or match: none");
  }
  // Both grow with the width in proportion.
  const double slope = with(config.dim_ffn + kUnit) - have,
               width = static_cast<double>(config.dim_ffn) + kUnit * std::round((want - have) / slope);
  if (width < kUnit)
    refuse(cat(wanted(), ", and it has ", with(kUnit), " with the least dim_ffn, ", kUnit),
           cat("a larger variant ", like.name, ", which the others are matched to; or match: none"));
  return static_cast<int64_t>(width);
}

}  // namespace gf
