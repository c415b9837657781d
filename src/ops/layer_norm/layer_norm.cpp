// SPDX-License-Identifier: Apache-2.0
#include "ops/layer_norm/layer_norm.h"

#include "ops/layer_norm/kernels.h"

namespace gf {
namespace {

// What the backward pass needs of the forward pass.
struct Saved {
  Tensor x, w, mean, rstd;  // x: what was normalised
};

// dx empty: plain layer_norm. Fills sum and y.
Saved forward(Tape& tape, const Tensor& x, const Tensor& dx, const Tensor& w, const Tensor& b, double eps,
              const Tensor& sum, const Tensor& y) {
  const int64_t C = x.size(-1), M = x.numel() / C;
  check_shape("layer_norm", "the weight", w, Shape{C});
  check_shape("layer_norm", "the bias", b, Shape{C});
  Saved s{dx ? sum : x, w, tape.empty({M}, inner(x.dtype())), tape.empty({M}, inner(x.dtype()))};
  with_real(x.dtype(), [&]<class T>(Type<T>) {
    const LayerNormArgs<T> args{M,
                                C,
                                static_cast<Inner<T>>(eps),
                                x.data<T>(),
                                data_or_null<T>(dx),
                                w.data<T>(),
                                b.data<T>(),
                                data_or_null<T>(sum),
                                y.data<T>(),
                                s.mean.data<Inner<T>>(),
                                s.rstd.data<Inner<T>>()};
    on_device(
        x.device(), args, [](const auto& p) { cpu::layer_norm(p); },
        [](const auto& p, auto stream) { cuda::layer_norm(p, stream); });
  });
  return s;
}

// The gradient of what was normalised; those of weight and bias are added to dw and db where these are given.
Tensor backward(Tape& tape, const Saved& s, const Tensor& dy, const Tensor& dsum, const Tensor& dw, const Tensor& db) {
  const int64_t C = s.x.size(-1), M = s.x.numel() / C;
  Tensor dx = tape.empty(s.x.shape(), s.x.dtype());
  const Tensor partial = tape.empty({row_blocks(M, C, dx.device()).size(), 2, C}, inner(s.x.dtype()));
  with_real(s.x.dtype(), [&]<class T>(Type<T>) {
    const LayerNormBackwardArgs<T> args{M,
                                        C,
                                        s.x.data<T>(),
                                        s.w.data<T>(),
                                        s.mean.data<Inner<T>>(),
                                        s.rstd.data<Inner<T>>(),
                                        dy.data<T>(),
                                        data_or_null<T>(dsum),
                                        dx.data<T>(),
                                        data_or_null<Inner<T>>(dw),
                                        data_or_null<Inner<T>>(db),
                                        partial.data<Inner<T>>()};
    on_device(
        dx.device(), args, [](const auto& p) { cpu::layer_norm_backward(p); },
        [](const auto& p, auto stream) { cuda::layer_norm_backward(p, stream); });
  });
  return dx;
}

}  // namespace

Var layer_norm(const Var& x, const Var& w, const Var& b, double eps) {
  Tape& tape = x.tape();
  Tensor y = tape.empty(x.shape(), x.value().dtype());
  Saved s = forward(tape, x.value(), {}, w.value(), b.value(), eps, {}, y);
  return tape.record("layer_norm", {x, w, b}, std::move(y),
                     [s = std::move(s), &tape](std::span<Tensor> grad, Grads& grads) {
                       Tensor dx = backward(tape, s, grad[0], {}, grads.sum(1), grads.sum(2));
                       if (grads.wants(0)) grads.add(0, std::move(dx));
                     });
}

ResidualNorm add_layer_norm(const Var& x, const Var& dx, const Var& w, const Var& b, double eps) {
  Tape& tape = x.tape();
  check_shape("add_layer_norm", "dx", dx.value(), x.shape());
  const Tensor sum = tape.empty(x.shape(), x.value().dtype());
  const Tensor y = tape.empty(x.shape(), x.value().dtype());
  Saved s = forward(tape, x.value(), dx.value(), w.value(), b.value(), eps, sum, y);
  const auto out = tape.record("add_layer_norm", std::vector{x, dx, w, b}, {sum, y},
                               [s = std::move(s), &tape](std::span<Tensor> grad, Grads& grads) {
                                 const Tensor dw = grads.sum(2), db = grads.sum(3);
                                 Tensor d = grad[1] ? backward(tape, s, grad[1], grad[0], dw, db) : std::move(grad[0]);
                                 if (grads.wants(0)) grads.add(0, d);
                                 if (grads.wants(1)) grads.add(1, std::move(d));
                               });
  return {out[0], out[1]};
}

}  // namespace gf
