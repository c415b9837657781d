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

int64_t matching_width(const ModelConfig& config, const ModelConfig& like, Ablation::Match match) {
  constexpr int64_t kUnit = 32;
  const bool params = match == Ablation::Match::params;
  const auto cost = [&](const ModelConfig& c) {
    return params ? static_cast<double>(parameters_of(c)) : training_flops(c);
  };
  ModelConfig wider = config;
  wider.dim_ffn += kUnit;
  const double want = cost(like), have = cost(config), slope = cost(wider) - have;
  if (slope == 0) {
    if (have == want) return config.dim_ffn;
    refuse(cat("match wants ", want, params ? " parameters" : " operations a token",
               ", as the first variant has, and it has ", have,
               ", which dim_ffn does not change: the llama channel mixer has its own width"),
           "it as the first variant, for the others to be matched to; or match: none");
  }
  // Both grow with the width in proportion.
  const double width = static_cast<double>(config.dim_ffn) + kUnit * std::round((want - have) / slope);
  if (width < kUnit)
    refuse(cat("match wants ", want, params ? " parameters" : " operations a token",
               ", as the first variant has, and it has ", cost([&] {
                 ModelConfig least = config;
                 least.dim_ffn = kUnit;
                 return least;
               }()),
               " with the least dim_ffn, ", kUnit),
           "another first variant, or match: none");
  return static_cast<int64_t>(width);
}

}  // namespace gf
