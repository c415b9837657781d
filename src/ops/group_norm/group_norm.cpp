// SPDX-License-Identifier: Apache-2.0
#include "ops/group_norm/group_norm.h"

#include "ops/group_norm/kernels.h"

namespace gf {
namespace {

// What the backward pass needs of the forward pass.
struct Saved {
  Tensor y, g, w, b, mean, rstd;
  int64_t M, H, N;
  double pre_scale;
};

// dout becomes the gradient of the gate, in place; returns that of y.
Tensor backward(Tape& tape, const Saved& s, const Tensor& dout, const Tensor& dw, const Tensor& db) {
  Tensor dy = tape.empty(s.y.shape(), s.y.dtype());
  const Tensor partial = tape.empty({row_blocks(s.M, s.H * s.N, dy.device()).size(), 2, s.H * s.N}, inner(s.y.dtype()));
  with_real(dy.dtype(), [&]<class T>(Type<T>) {
    const GroupNormBackwardArgs<T> args{.M = s.M,
                                        .H = s.H,
                                        .N = s.N,
                                        .pre_scale = static_cast<Inner<T>>(s.pre_scale),
                                        .y = s.y.data<T>(),
                                        .g = s.g.data<T>(),
                                        .w = s.w.data<T>(),
                                        .b = s.b.data<T>(),
                                        .mean = s.mean.data<Inner<T>>(),
                                        .rstd = s.rstd.data<Inner<T>>(),
                                        .dout = dout.data<T>(),
                                        .dy = dy.data<T>(),
                                        .dg = dout.data<T>(),
                                        .dw = data_or_null<Inner<T>>(dw),
                                        .db = data_or_null<Inner<T>>(db),
                                        .partial = partial.data<Inner<T>>()};
    on_device(
        dy.device(), args, [](const auto& p) { cpu::group_norm_silu_gate_backward(p); },
        [](const auto& p, auto stream) { cuda::group_norm_silu_gate_backward(p, stream); });
  });
  return dy;
}

}  // namespace

Var group_norm_silu_gate(const Var& y, const Var& g, int64_t groups, const Var& w, const Var& b, double eps,
                         double pre_scale) {
  Tape& tape = y.tape();
  const int64_t C = y.size(-1), M = y.value().numel() / C;
  const DType dtype = y.value().dtype();
  GF_CHECK(groups > 0 && C % groups == 0, "group_norm: ", C, " channels in ", groups, " groups");
  check_shape("group_norm", "the gate", g.value(), y.shape());
  check_shape("group_norm", "the weight", w.value(), Shape{C});
  check_shape("group_norm", "the bias", b.value(), Shape{C});
  Tensor out = tape.empty(y.shape(), dtype);
  Saved s{.y = y.value(),
          .g = g.value(),
          .w = w.value(),
          .b = b.value(),
          .mean = tape.empty({M, groups}, inner(dtype)),
          .rstd = tape.empty({M, groups}, inner(dtype)),
          .M = M,
          .H = groups,
          .N = C / groups,
          .pre_scale = pre_scale};
  with_real(dtype, [&]<class T>(Type<T>) {
    const GroupNormArgs<T> args{.M = s.M,
                                .H = s.H,
                                .N = s.N,
                                .eps = static_cast<Inner<T>>(eps),
                                .pre_scale = static_cast<Inner<T>>(pre_scale),
                                .y = s.y.data<T>(),
                                .g = s.g.data<T>(),
                                .w = s.w.data<T>(),
                                .b = s.b.data<T>(),
                                .out = out.data<T>(),
                                .mean = s.mean.data<Inner<T>>(),
                                .rstd = s.rstd.data<Inner<T>>()};
    on_device(
        out.device(), args, [](const auto& p) { cpu::group_norm_silu_gate(p); },
        [](const auto& p, auto stream) { cuda::group_norm_silu_gate(p, stream); });
  });
  return tape.record("group_norm", {y, g, w, b}, std::move(out),
                     [s = std::move(s), &tape](std::span<Tensor> grad, Grads& grads) {
                       Tensor dg = tape.writable(std::move(grad[0]));
                       Tensor dy = backward(tape, s, dg, grads.sum(2), grads.sum(3));
                       if (grads.wants(0)) grads.add(0, std::move(dy));
                       if (grads.wants(1)) grads.add(1, std::move(dg));
                     });
}

}  // namespace gf
