// SPDX-License-Identifier: Apache-2.0
// Whole models, small and with hashed values, and one pass through them: for tests of mixers, stages and optimizers.
#pragma once
#include <string>
#include <vector>

#include "model/layer_stack.h"

namespace gf {

// 4 layers of width 32, heads of 16, 33 tokens; `upper` empty: one kind of layer, else two of each. Resolved and
// checked.
ModelConfig small_config(const std::string& time_mix, const std::string& channel_mix = "x060",
                         const std::string& upper = "");

// A time mixer alone, or, where it needs a lower stack, above Finch-C2.
ModelConfig small_config_with(std::string_view time_mix, std::string_view channel_mix);

// Values far from the published start, at which much is zero: nothing vanishes, nothing saturates. Rounded to
// float32, so that a float and a double model are the same. The gradients are set to zero.
void fill_hashed(const ParameterStore&, uint64_t seed = 1);
// What that gives a parameter, before it is rounded to bf16; on the CPU.
Tensor hashed_numbers(const Parameter&, DType, uint64_t seed = 1);

// Tokens from (seed, sample, position); samples count from first_sample.
Batch hashed_batch(int64_t B, int64_t T, int64_t vocab, int64_t first_sample = 0, uint64_t seed = 1);
// Sequence `row` of a batch, as a batch.
Batch row_of(const Batch&, int64_t row);

struct RunOptions {
  bool recompute = false, training = true;
  WeightGradients weights = WeightGradients::now;
  double loss_scale = 1;
  double pull = 0;
  uint64_t seed = 0;
  Tape::Mode mode = Tape::Mode::record;
};

struct RunResult {
  Tensor loss;
  double losses_sum = 0;  // of the positions' cross-entropies
  Tensor grads;           // a copy of the flat gradients; empty in evaluation and on the meta device
  size_t forward_peak = 0, peak = 0, left = 0;  // bytes of the arena
};

// Zeroes the gradients, then forward and, if recording, backward.
RunResult run_model(const LayerStack&, const Batch&, const RunOptions& = {});
// (B, T, vocab), in evaluation.
Tensor logits_of(const LayerStack&, const Batch&);

// |a - b| / |b| over all elements, in double; NaN where either has one.
double relative_difference(const Tensor& a, const Tensor& b);

}  // namespace gf
