// SPDX-License-Identifier: Apache-2.0
#include "ops/lora/lora.h"

#include "ops/elementwise/kernels.h"
#include "ops/lora/kernels.h"
#include "ops/matmul/matmul.h"
#include "ops/row_blocks.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

void tanh_in_place(const Tensor& z) {
  with_real(z.dtype(), [&]<class T>(Type<T>) {
    on_device(
        z.device(), [&] { cpu::tanh_in_place(z.data<T>(), z.numel()); },
        [&](auto stream) { cuda::tanh_in_place(z.data<T>(), z.numel(), stream); });
  });
}

void tanh_backward(const Tensor& z, const Tensor& dz) {
  with_real(z.dtype(), [&]<class T>(Type<T>) {
    on_device(
        z.device(), [&] { cpu::tanh_backward(z.data<T>(), dz.data<T>(), z.numel()); },
        [&](auto stream) { cuda::tanh_backward(z.data<T>(), dz.data<T>(), z.numel(), stream); });
  });
}

void repeat_row(const Tensor& row, const Tensor& out) {
  with_real(row.dtype(), [&]<class T>(Type<T>) {
    const int64_t C = row.numel();
    const BroadcastRowsArgs<T> args{.M = out.numel() / C, .C = C, .row = row.data<T>(), .out = out.data<T>()};
    on_device(
        row.device(), [&] { cpu::broadcast_rows(args); }, [&](auto stream) { cuda::broadcast_rows(args, stream); });
  });
}

void add_rows(Tape& tape, const Tensor& x, const Tensor& sum) {
  const int64_t C = sum.numel(), M = x.numel() / C;
  const Tensor partial = tape.empty({row_blocks(M).size(), C}, x.dtype());
  with_real(x.dtype(), [&]<class T>(Type<T>) {
    const BroadcastRowsBackwardArgs<T> args{
        .M = M, .C = C, .dout = x.data<T>(), .drow = sum.data<T>(), .partial = partial.data<T>()};
    on_device(
        x.device(), [&] { cpu::broadcast_rows_backward(args); },
        [&](auto stream) { cuda::broadcast_rows_backward(args, stream); });
  });
}

}  // namespace

Var lora(const Var& x, const Var& a, const Var& b, const Var& base) {
  Tape& tape = x.tape();
  const int64_t C = x.size(-1), M = x.value().numel() / C, R = a.size(1), N = b.size(1);
  check_shape("lora", "A", a.value(), {C, R});
  check_shape("lora", "B", b.value(), {R, N});
  const bool one_row = base.value().numel() == N && M > 1;
  GF_CHECK(one_row || base.value().numel() == M * N, "lora: base is ", base.shape(), " for ", M, " rows of ", N);
  const DType dtype = x.value().dtype();
  const Tensor z = tape.empty({M, R}, dtype);
  matmul(Matrix(x.value()), Matrix(a.value()), Matrix(z));
  tanh_in_place(z);
  Shape shape = x.shape();
  if (N != C) {
    GF_CHECK(x.shape().rank() == 3, "lora: x is ", x.shape());
    shape = Shape{x.size(0), x.size(1), N};
  }
  Tensor y = tape.empty(shape, dtype);
  if (one_row)
    repeat_row(base.value(), y);
  else
    copy(base.value().view(shape), y);
  matmul(Matrix(z), Matrix(b.value()), Matrix(y), Into::accumulate);
  return tape.record("lora", {x, a, b, base}, std::move(y),
                     [xv = x.value(), av = a.value(), bv = b.value(), z, one_row, base_shape = base.shape(), &tape](
                         std::span<Tensor> grad, Grads& grads) {
                       const Tensor dy = grad[0];
                       const Tensor dz = tape.empty(z.shape(), z.dtype());
                       matmul(Matrix(dy), Matrix(bv).T(), Matrix(dz));
                       tanh_backward(z, dz);
                       if (grads.wants(0)) {
                         Tensor dx = tape.empty(xv.shape(), xv.dtype());
                         matmul(Matrix(dz), Matrix(av).T(), Matrix(dx));
                         grads.add(0, std::move(dx));
                       }
                       if (grads.wants(1))
                         grads.later(1, [xv, dz](const Tensor& sum) {
                           matmul(Matrix(xv).T(), Matrix(dz), Matrix(sum), Into::accumulate);
                         });
                       if (grads.wants(2))
                         grads.later(2, [z, dy](const Tensor& sum) {
                           matmul(Matrix(z).T(), Matrix(dy), Matrix(sum), Into::accumulate);
                         });
                       if (!grads.wants(3)) return;
                       if (one_row)
                         add_rows(tape, dy, grads.sum(3));
                       else
                         grads.add(3, dy.view(base_shape));
                     });
}

}  // namespace gf
