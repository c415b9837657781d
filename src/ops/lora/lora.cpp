// SPDX-License-Identifier: Apache-2.0
#include "ops/lora/lora.h"

#include "base/trace.h"
#include "ops/lora/kernels.h"
#include "ops/matmul/matmul.h"

namespace gf {
namespace {

struct Saved {
  Tensor x, a, b, z;
  bool base_is_row, base_is_x;
  Shape base_shape;
  int64_t M() const { return z.size(0); }
};

// Of the two products.
double product_flops(const Saved& s) {
  return 2.0 * static_cast<double>(s.M() * s.a.numel() + s.M() * s.b.numel());
}

// Inputs on the tape, in this order: x, a, b, and base where it is not x.
void backward(Tape& tape, const Saved& s, const Tensor& dy, Grads& grads) {
  const DType dtype = dy.dtype();
  const int64_t M = s.M(), N = s.b.size(1);
  const bool wants_row = s.base_is_row && grads.wants(3);
  const Tensor dz = tape.empty(s.z.shape(), dtype);
  Tensor dx = grads.wants(0) ? tape.empty(s.x.shape(), dtype) : Tensor();
  const Tensor partial = wants_row ? tape.empty({lora_blocks(M).size(), N}, inner(dtype)) : Tensor();
  const Tensor dbase = wants_row ? grads.sum(3) : Tensor();
  Trace::add_flops(product_flops(s));
  with_real(dtype, [&]<class T>(Type<T>) {
    const LoraBackwardArgs<T> args{.M = M,
                                   .C = s.a.size(0),
                                   .R = s.a.size(1),
                                   .N = N,
                                   .a = s.a.data<T>(),
                                   .b = s.b.data<T>(),
                                   .z = s.z.data<T>(),
                                   .dy = dy.data<T>(),
                                   .dz = dz.data<T>(),
                                   .dx = data_or_null<T>(dx),
                                   .dx_with_dy = s.base_is_x,
                                   .dbase = data_or_null<Inner<T>>(dbase),
                                   .partial = data_or_null<Inner<T>>(partial)};
    on_device(
        dy.device(), args, [](const auto& p) { cpu::lora_backward(p); },
        [](const auto& p, auto stream) { cuda::lora_backward(p, stream); });
  });
  if (dx) grads.add(0, std::move(dx));
  if (grads.wants(1))
    grads.later(1,
                [x = s.x, dz](const Tensor& sum) { matmul(Matrix(x).T(), Matrix(dz), Matrix(sum), Into::accumulate); });
  if (grads.wants(2))
    grads.later(2,
                [z = s.z, dy](const Tensor& sum) { matmul(Matrix(z).T(), Matrix(dy), Matrix(sum), Into::accumulate); });
  if (!s.base_is_x && !s.base_is_row && grads.wants(3)) grads.add(3, dy.view(s.base_shape));
}

}  // namespace

Var lora(const Var& x, const Var& a, const Var& b, const Var& base) {
  Tape& tape = x.tape();
  const int64_t C = x.size(-1), M = x.value().numel() / C, R = a.size(1), N = b.size(1);
  check_shape("lora", "A", a.value(), {C, R});
  check_shape("lora", "B", b.value(), {R, N});
  const bool base_is_row = base.value().numel() == N && M > 1;
  GF_CHECK(base_is_row || base.value().numel() == M * N, "lora: base is ", base.shape(), " for ", M, " rows of ", N);
  Shape shape = x.shape();
  if (N != C) {
    GF_CHECK(x.shape().rank() == 3, "lora: x is ", x.shape());
    shape = Shape{x.size(0), x.size(1), N};
  }
  const DType dtype = x.value().dtype();
  Tensor y = tape.empty(shape, dtype);
  Saved s{x.value(), a.value(), b.value(), tape.empty({M, R}, dtype), base_is_row, base.same_as(x), base.shape()};
  Trace::add_flops(product_flops(s));
  with_real(dtype, [&]<class T>(Type<T>) {
    const LoraArgs<T> args{.M = M,
                           .C = C,
                           .R = R,
                           .N = N,
                           .x = s.x.data<T>(),
                           .a = s.a.data<T>(),
                           .b = s.b.data<T>(),
                           .base = base.value().data<T>(),
                           .base_is_row = base_is_row,
                           .z = s.z.data<T>(),
                           .y = y.data<T>()};
    on_device(
        y.device(), args, [](const auto& p) { cpu::lora(p); },
        [](const auto& p, auto stream) { cuda::lora(p, stream); });
  });
  std::vector<Var> inputs{x, a, b};
  if (!s.base_is_x) inputs.push_back(base);
  return tape.record("lora", inputs, {std::move(y)}, [s = std::move(s), &tape](std::span<Tensor> grad, Grads& grads) {
    backward(tape, s, grad[0], grads);
  })[0];
}

}  // namespace gf
