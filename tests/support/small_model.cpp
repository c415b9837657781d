// SPDX-License-Identifier: Apache-2.0
#include "support/small_model.h"

#include <cmath>

#include "base/random.h"
#include "support/bits.h"
#include "tensor/on_device.h"

namespace gf {
namespace {

struct Range {
  double middle, spread;
};

Range range_of(const ParameterSpec& spec, int64_t i) {
  switch (spec.role) {
    case Role::matrix:
      return {0, std::sqrt(2.0 / static_cast<double>(spec.shape[-1]))};  // keeps the size of what passes
    case Role::vector:
      return {spec.init.scale, 0.2};
    case Role::mix:
      return {0.5, 0.4};
    case Role::lora:
      return {0, 0.25};
    case Role::decay:
      return {-4 + 5 * static_cast<double>(i) / static_cast<double>(spec.shape.numel()), 0.2};
    case Role::bonus:
      return {0, 0.5};
  }
  fail("a parameter of no known role");
}

}  // namespace

ModelConfig small_config(const std::string& time_mix, const std::string& channel_mix, const std::string& upper) {
  ModelConfig c;
  c.tmix = time_mix, c.tmix2 = upper, c.cmix = c.cmix2 = channel_mix;
  c.n_layer = 4, c.n_embd = 32, c.head_size = 16, c.vocab_size = 33, c.ctx_len = 16;
  c.inv_other_layer_ratio = 2;
  c.resolve();
  c.check();
  return c;
}

ModelConfig small_config_with(std::string_view time_mix, std::string_view channel_mix) {
  if (time_mix == "gold") return small_config("x060c2", std::string(channel_mix), "gold");
  return small_config(std::string(time_mix), std::string(channel_mix));
}

Tensor hashed_numbers(const Parameter& p, DType dtype, uint64_t seed) {
  const Random random(seed, p.name());
  Tensor numbers = Tensor::empty(p.shape(), dtype, kCpu);
  with_float(dtype, [&]<class T>(Type<T>) {
    for (int64_t i = 0; i < p.shape().numel(); ++i) {
      const Range r = range_of(p.spec(), i);
      numbers.data<T>()[i] = static_cast<float>(r.middle + r.spread * random.uniform(static_cast<uint64_t>(i)));
    }
  });
  return numbers;
}

void fill_hashed(const ParameterStore& store, uint64_t seed) {
  for (const auto& p : store.all()) p->set(hashed_numbers(*p, inner(p->value().dtype()), seed));
  if (store.grads()) fill_zero(store.grads());
}

Batch hashed_batch(int64_t B, int64_t T, int64_t vocab, int64_t first_sample, uint64_t seed) {
  Batch batch{Tensor::empty({B, T}, DType::i32, kCpu), Tensor::empty({B, T}, DType::i32, kCpu), {}};
  for (int64_t b = 0; b < B; ++b) {
    const Random random(seed, cat("sample ", first_sample + b));
    const auto token = [&](int64_t t) { return static_cast<int32_t>(random.bits(t) % static_cast<uint64_t>(vocab)); };
    batch.samples_B.push_back(first_sample + b);
    for (int64_t t = 0; t < T; ++t) {
      batch.inputs_BT.data<int32_t>()[b * T + t] = token(t);
      batch.targets_BT.data<int32_t>()[b * T + t] = token(t + 1);
    }
  }
  return batch;
}

Batch row_of(const Batch& batch, int64_t row) {
  return {batch.inputs_BT.slice(row, row + 1), batch.targets_BT.slice(row, row + 1), {batch.samples_B[row]}};
}

RunResult run_model(const LayerStack& layers, const Batch& batch, const RunOptions& o) {
  const ParameterStore& store = layers.parameters();
  if (store.grads()) fill_zero(store.grads());
  Arena arena(store.values().device());
  RunResult result;
  const bool real = store.values().device() == kCpu;
  {
    Tape tape(arena, o.mode);
    const Pass pass{batch, o.training, o.loss_scale, o.pull, o.seed};
    Head::Loss loss = layers.head()->loss(pass, layers.forward(tape, pass, {}, o.recompute).x_BTC);
    if (real) {
      result.loss = clone(loss.loss.value());
      for (int64_t i = 0; i < loss.losses_BT.numel(); ++i) result.losses_sum += loss.losses_BT.data<double>()[i];
    }
    result.forward_peak = arena.peak_bytes();
    if (tape.recording()) {
      const Tensor one = tape.empty({1}, loss.loss.value().dtype());
      fill(one, 1);
      std::vector<Tape::Seed> seeds{{loss.loss, one}};
      loss = {};
      tape.backward(std::move(seeds), o.weights);
      if (o.weights == WeightGradients::later) tape.backward_weights();
      if (real) result.grads = clone(store.grads());
    }
  }
  result.peak = arena.peak_bytes();
  result.left = arena.bytes_in_use();
  return result;
}

Tensor logits_of(const LayerStack& layers, const Batch& batch) {
  Arena arena(layers.parameters().values().device());
  Tape tape(arena, Tape::Mode::evaluate);
  const Pass pass{batch};
  return layers.head()->logits(layers.forward(tape, pass, {}).x_BTC).value();
}

double relative_difference(const Tensor& a, const Tensor& b) {
  GF_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype(), a.shape(), " against ", b.shape());
  double difference = 0, size = 0;
  with_float(a.dtype(), [&]<class T>(Type<T>) {
    for (int64_t i = 0; i < a.numel(); ++i) {
      const double x = a.data<T>()[i], y = b.data<T>()[i];
      difference += (x - y) * (x - y), size += y * y;
    }
  });
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

}  // namespace gf
