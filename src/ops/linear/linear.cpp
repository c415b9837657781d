// SPDX-License-Identifier: Apache-2.0
#include "ops/linear/linear.h"

#include "base/parallel_for.h"
#include "base/trace.h"
#include "ops/cpu/few_rows.h"
#include "ops/linear/kernels.h"
#include "ops/matmul/matmul.h"

namespace gf {
namespace {

// The shape of x with its last dimension replaced.
Shape with_last(const Shape& shape, int64_t last) {
  std::array<int64_t, Shape::kMaxRank> dims{};
  for (int i = 0; i < shape.rank(); ++i) dims[i] = shape[i];
  dims[shape.rank() - 1] = last;
  return Shape(std::span(dims.data(), shape.rank()));
}

void check_weight(const char* op, const Tensor& x, int64_t more_inputs, const Tensor& w) {
  GF_CHECK(w.shape().rank() == 2 && w.size(1) == x.size(-1) + more_inputs, op, ": inputs ", x.shape(), " plus ",
           more_inputs, " columns, weight ", w.shape());
}

// dx = dy W (columns `cols` of W), where wanted.
Tensor input_gradient(const Tensor& dy, const Matrix& w, const Shape& shape, Tape& tape) {
  Tensor dx = tape.empty(shape, dy.dtype());
  matmul(Matrix(dy), w, Matrix(dx));
  return dx;
}

// y = relu(x W^T)^2, squared tile by tile.
void fused_product(const Tensor& x, const Tensor& w, const Tensor& y) {
  Trace::add_flops(2.0 * static_cast<double>(y.numel() * w.size(1)));
  with_real(y.dtype(), [&]<class T>(Type<T>) {
    const LinearReluSquaredArgs<T> args{
        x.numel() / x.size(-1), w.size(0), w.size(1), x.data<T>(), w.data<T>(), y.data<T>()};
    on_device(
        y.device(), args, [](const auto& p) { cpu::linear_relu_squared(p); },
        [](const auto& p, auto stream) { cuda::linear_relu_squared(p, stream); });
  });
}

}  // namespace

Var linear(const Var& x, const Var& w) {
  Tape& tape = x.tape();
  check_weight("linear", x.value(), 0, w.value());
  Tensor y = tape.empty(with_last(x.shape(), w.size(0)), x.value().dtype());
  matmul(Matrix(x.value()), Matrix(w.value()).T(), Matrix(y));
  return tape.record(
      "linear", {x, w}, std::move(y), [xv = x.value(), wv = w.value(), &tape](std::span<Tensor> grad, Grads& grads) {
        const Tensor dy = grad[0];
        if (grads.wants(0)) grads.add(0, input_gradient(dy, Matrix(wv), xv.shape(), tape));
        if (grads.wants(1))
          grads.later(
              1, [xv, dy](const Tensor& sum) { matmul(Matrix(dy).T(), Matrix(xv), Matrix(sum), Into::accumulate); });
      });
}

Var linear_relu_squared(const Var& x, const Var& w) {
  Tape& tape = x.tape();
  check_weight("linear_relu_squared", x.value(), 0, w.value());
  Tensor y = tape.empty(with_last(x.shape(), w.size(0)), x.value().dtype());
  const bool few = y.numel() / y.size(-1) <= cpu::kFewRows || w.value().dtype() == DType::bf16;
  if (few && y.device() == kCpu) {  // they have a product of their own
    matmul(Matrix(x.value()), Matrix(w.value()).T(), Matrix(y));
    with_float(y.dtype(), [&]<class T>(Type<T>) {
      parallel_ranges(y.numel(), 1 << 14,
                      [&](int64_t begin, int64_t end) { cpu::relu_squared(y.data<T>() + begin, end - begin); });
    });
  } else {
    fused_product(x.value(), w.value(), y);
  }
  return tape.record("linear_relu_squared", {x, w}, y,
                     [xv = x.value(), wv = w.value(), y, &tape](std::span<Tensor> grad, Grads& grads) {
                       const Tensor dpre = tape.writable(std::move(grad[0]));
                       Tensor dx = grads.wants(0) ? tape.empty(xv.shape(), y.dtype()) : Tensor();
                       if (dx) Trace::add_flops(2.0 * static_cast<double>(y.numel() * wv.size(1)));
                       with_real(y.dtype(), [&]<class T>(Type<T>) {
                         const LinearReluSquaredBackwardArgs<T> args{.M = y.numel() / wv.size(0),
                                                                     .N = wv.size(0),
                                                                     .K = wv.size(1),
                                                                     .w = wv.data<T>(),
                                                                     .y = y.data<T>(),
                                                                     .dy = dpre.data<T>(),
                                                                     .dx = data_or_null<T>(dx)};
                         on_device(
                             y.device(), args, [](const auto& p) { cpu::linear_relu_squared_backward(p); },
                             [](const auto& p, auto stream) { cuda::linear_relu_squared_backward(p, stream); });
                       });
                       if (dx) grads.add(0, std::move(dx));
                       if (grads.wants(1))
                         grads.later(1, [xv, dpre](const Tensor& sum) {
                           matmul(Matrix(dpre).T(), Matrix(xv), Matrix(sum), Into::accumulate);
                         });
                     });
}

Var linear_concat(const Var& x, const Var& c, const Var& w) {
  Tape& tape = x.tape();
  const int64_t K = x.size(-1), Z = c.size(-1);
  check_weight("linear_concat", x.value(), Z, w.value());
  Tensor y = tape.empty(with_last(x.shape(), w.size(0)), x.value().dtype());
  matmul(Matrix(x.value()), Matrix(w.value(), 0, K).T(), Matrix(y));
  matmul(Matrix(c.value()), Matrix(w.value(), K, Z).T(), Matrix(y), Into::accumulate);
  return tape.record(
      "linear_concat", {x, c, w}, std::move(y),
      [xv = x.value(), cv = c.value(), wv = w.value(), K, Z, &tape](std::span<Tensor> grad, Grads& grads) {
        const Tensor dy = grad[0];
        if (grads.wants(0)) grads.add(0, input_gradient(dy, Matrix(wv, 0, K), xv.shape(), tape));
        if (grads.wants(1)) grads.add(1, input_gradient(dy, Matrix(wv, K, Z), cv.shape(), tape));
        if (grads.wants(2))
          grads.later(2, [xv, cv, dy, K, Z](const Tensor& sum) {
            matmul(Matrix(dy).T(), Matrix(xv), Matrix(sum, 0, K), Into::accumulate);
            matmul(Matrix(dy).T(), Matrix(cv), Matrix(sum, K, Z), Into::accumulate);
          });
      });
}

}  // namespace gf
