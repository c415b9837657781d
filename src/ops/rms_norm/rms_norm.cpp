// SPDX-License-Identifier: Apache-2.0
#include "ops/rms_norm/rms_norm.h"

#include "ops/rms_norm/kernels.h"

namespace gf {
namespace {

void backward(const Tensor& x, const Tensor& root, double eps, const Tensor& dy, const Tensor& dx) {
  with_real(x.dtype(), [&]<class T>(Type<T>) {
    const RmsNormBackwardArgs<T> args{.M = root.numel(),
                                      .C = x.size(-1),
                                      .eps = static_cast<Inner<T>>(eps),
                                      .x = x.data<T>(),
                                      .dy = dy.data<T>(),
                                      .root = root.data<Inner<T>>(),
                                      .dx = dx.data<T>()};
    on_device(
        x.device(), args, [](const auto& p) { cpu::rms_norm_backward(p); },
        [](const auto& p, auto stream) { cuda::rms_norm_backward(p, stream); });
  });
}

}  // namespace

Var rms_norm(const Var& x, double eps) {
  Tape& tape = x.tape();
  const int64_t C = x.size(-1), M = x.value().numel() / C;
  Tensor y = tape.empty(x.shape(), x.value().dtype());
  const Tensor root = tape.empty({M}, inner(y.dtype()));
  with_real(y.dtype(), [&]<class T>(Type<T>) {
    const RmsNormArgs<T> args{.M = M,
                              .C = C,
                              .eps = static_cast<Inner<T>>(eps),
                              .x = x.value().data<T>(),
                              .y = y.data<T>(),
                              .root = root.data<Inner<T>>()};
    on_device(
        y.device(), args, [](const auto& p) { cpu::rms_norm(p); },
        [](const auto& p, auto stream) { cuda::rms_norm(p, stream); });
  });
  return tape.record("rms_norm", {x}, std::move(y),
                     [xv = x.value(), root, eps, &tape](std::span<Tensor> grad, Grads& grads) {
                       Tensor d = tape.writable(std::move(grad[0]));
                       backward(xv, root, eps, d, d);
                       grads.add(0, std::move(d));
                     });
}

}  // namespace gf
