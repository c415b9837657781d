// SPDX-License-Identifier: Apache-2.0
#include "ops/head_loss/head_loss.h"

#include "base/trace.h"
#include "ops/head_loss/kernels.h"
#include "tensor/batch.h"

namespace gf {
namespace {

void check_inputs(const Tensor& x, const Tensor& w, const Tensor& targets) {
  GF_CHECK(w.shape().rank() == 2 && w.size(1) == x.size(-1), "head_loss: inputs ", x.shape(), ", weight ", w.shape());
  GF_CHECK(targets.dtype() == DType::i32 && targets.numel() * x.size(-1) == x.numel(), "head_loss: inputs ", x.shape(),
           ", targets ", targets.shape(), " ", targets.dtype());
}

void check_seed(const Tensor& seed) {
  if (!(seed.device() == kCpu)) return;  // not worth waiting for a GPU
  with_float(seed.dtype(), [&]<class T>(Type<T>) {
    GF_CHECK(*seed.data<T>() == T(1), "head_loss seeded with ", *seed.data<T>(), ", not 1; use its scale");
  });
}

}  // namespace

HeadLoss head_loss(const Var& x, const Var& w, const Tensor& targets, const HeadLossOptions& options) {
  Tape& tape = x.tape();
  check_inputs(x.value(), w.value(), targets);
  const DType dtype = x.value().dtype();
  const int64_t C = x.size(-1), M = targets.numel(), V = w.size(0), counted = count_targets(targets, options.masked);
  const Tensor loss = tape.empty({1}, inner(dtype));
  const Tensor losses = tape.empty(targets.shape(), DType::f64), correct = tape.empty(targets.shape(), DType::i32);
  const Tensor dx = x.needs_grad() ? tape.empty(x.shape(), dtype) : Tensor();
  const Tensor dw = w.needs_grad() ? tape.grad_sum(w) : Tensor();
  const HeadLossChunks chunks = HeadLossChunks::of(M, V, x.value().device());
  const Tensor logits = tape.empty({chunks.rows, chunks.stride}, inner(dtype));
  const bool packs = options.masked && !is_like_gpu(x.value().device());
  const Tensor packed = packs ? tape.empty({2, chunks.rows, C}, dtype) : Tensor();
  const Tensor positions = packs ? tape.empty({chunks.rows}, DType::i32) : Tensor();
  Trace::add_flops(2.0 * (1 + bool(dx) + bool(dw)) * static_cast<double>(counted * C) * static_cast<double>(V));
  with_real(dtype, [&]<class T>(Type<T>) {
    const HeadLossArgs<T> args{.M = M,
                               .C = C,
                               .V = V,
                               .chunks = chunks,
                               .scale = options.scale,
                               .pull = options.pull,
                               .masked = options.masked,
                               .x = x.value().data<T>(),
                               .w = w.value().data<T>(),
                               .targets = targets.data<int32_t>(),
                               .logits = logits.data<Inner<T>>(),
                               .packed = data_or_null<T>(packed),
                               .positions = data_or_null<int32_t>(positions),
                               .loss = loss.data<Inner<T>>(),
                               .losses = losses.data<double>(),
                               .correct = correct.data<int32_t>(),
                               .dx = data_or_null<T>(dx),
                               .dw = data_or_null<Inner<T>>(dw)};
    on_device(
        x.value().device(), args, [](const auto& p) { cpu::head_loss(p); },
        [](const auto& p, auto stream) { cuda::head_loss(p, stream); });
  });
  const Var out = tape.record("head_loss", {x, w}, loss, [dx](std::span<Tensor> grad, Grads& grads) {
    check_seed(grad[0]);
    if (grads.wants(0)) grads.add(0, dx);
    grads.sum(1);  // holds the weight's gradient since the forward pass
  });
  return {out, losses, correct};
}

}  // namespace gf
