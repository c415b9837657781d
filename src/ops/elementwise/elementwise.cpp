// SPDX-License-Identifier: Apache-2.0
#include "ops/elementwise/elementwise.h"

#include <cmath>

#include "ops/elementwise/kernels.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

// Memory for one of two input gradients: that of the output's gradient, where nobody else holds it.
Tensor reuse(Tape& tape, const Tensor& dout) {
  return dout.sole_owner() ? dout : tape.empty(dout.shape(), dout.dtype());
}

// x empty: none is added.
Tensor gate(Tape& tape, const Tensor& x, const Tensor& r, const Tensor& v) {
  check_shape("sigmoid_gate", "the gated value", v, r.shape());
  if (x) check_shape("sigmoid_gate", "the residual", x, r.shape());
  Tensor out = tape.empty(r.shape(), r.dtype());
  with_real(out.dtype(), [&]<class T>(Type<T>) {
    const SigmoidGateArgs<T> args{
        .n = out.numel(), .x = data_or_null<T>(x), .r = r.data<T>(), .v = v.data<T>(), .out = out.data<T>()};
    on_device(
        out.device(), args, [](const auto& p) { cpu::sigmoid_gate(p); },
        [](const auto& p, auto stream) { cuda::sigmoid_gate(p, stream); });
  });
  return out;
}

// Gives the gradients of r, input `first`, and of v, the input after it.
void gate_backward(Tape& tape, const Tensor& r, const Tensor& v, const Tensor& dout, Grads& grads, int first) {
  if (!grads.wants(first) && !grads.wants(first + 1)) return;
  Tensor dr = tape.empty(r.shape(), r.dtype()), dv = reuse(tape, dout);
  with_real(r.dtype(), [&]<class T>(Type<T>) {
    const SigmoidGateBackwardArgs<T> args{.n = r.numel(),
                                          .r = r.data<T>(),
                                          .v = v.data<T>(),
                                          .dout = dout.data<T>(),
                                          .dr = dr.data<T>(),
                                          .dv = dv.data<T>()};
    on_device(
        r.device(), args, [](const auto& p) { cpu::sigmoid_gate_backward(p); },
        [](const auto& p, auto stream) { cuda::sigmoid_gate_backward(p, stream); });
  });
  if (grads.wants(first)) grads.add(first, std::move(dr));
  if (grads.wants(first + 1)) grads.add(first + 1, std::move(dv));
}

// The mask of one dropout; applied to the value forward and to the gradient backward.
struct Mask {
  Random random;
  std::vector<int64_t> samples;
  double p;

  void apply(const Tensor& x, const Tensor& y) const {
    with_real(x.dtype(), [&]<class T>(Type<T>) {
      const auto num_samples = static_cast<int64_t>(samples.size());
      const DropoutArgs<T> args{.num_samples = num_samples,
                                .per_sample = x.numel() / num_samples,
                                .samples = samples.data(),
                                .random = random,
                                .drop_below = static_cast<uint64_t>(std::ldexp(p, 64)),
                                .factor = static_cast<Inner<T>>(1 / (1 - p)),
                                .x = x.data<T>(),
                                .y = y.data<T>()};
      on_device(
          x.device(), args, [](const auto& p) { cpu::dropout(p); },
          [](const auto& p, auto stream) { cuda::dropout(p, stream); });
    });
  }
};

}  // namespace

Var add(const Var& a, const Var& b) {
  Tape& tape = a.tape();
  check_shape("add", "b", b.value(), a.shape());
  Tensor out = tape.empty(a.shape(), a.value().dtype());
  add(a.value(), b.value(), out);
  return tape.record("add", {a, b}, std::move(out), [](std::span<Tensor> grad, Grads& grads) {
    const Tensor d = std::move(grad[0]);
    if (grads.wants(0)) grads.add(0, d);
    if (grads.wants(1)) grads.add(1, d);
  });
}

Var swiglu(const Var& a, const Var& b) {
  Tape& tape = a.tape();
  check_shape("swiglu", "b", b.value(), a.shape());
  Tensor out = tape.empty(a.shape(), a.value().dtype());
  with_real(out.dtype(), [&]<class T>(Type<T>) {
    const SwigluArgs<T> args{
        .n = out.numel(), .a = a.value().data<T>(), .b = b.value().data<T>(), .out = out.data<T>()};
    on_device(
        out.device(), args, [](const auto& p) { cpu::swiglu(p); },
        [](const auto& p, auto stream) { cuda::swiglu(p, stream); });
  });
  return tape.record("swiglu", {a, b}, std::move(out),
                     [av = a.value(), bv = b.value(), &tape](std::span<Tensor> grad, Grads& grads) {
                       Tensor da = tape.empty(av.shape(), av.dtype()), db = tape.writable(std::move(grad[0]));
                       with_real(da.dtype(), [&]<class T>(Type<T>) {
                         const SwigluBackwardArgs<T> args{.n = da.numel(),
                                                          .a = av.data<T>(),
                                                          .b = bv.data<T>(),
                                                          .dout = db.data<T>(),
                                                          .da = da.data<T>(),
                                                          .db = db.data<T>()};
                         on_device(
                             da.device(), args, [](const auto& p) { cpu::swiglu_backward(p); },
                             [](const auto& p, auto stream) { cuda::swiglu_backward(p, stream); });
                       });
                       if (grads.wants(0)) grads.add(0, std::move(da));
                       if (grads.wants(1)) grads.add(1, std::move(db));
                     });
}

Var sigmoid_gate(const Var& r, const Var& v) {
  Tape& tape = r.tape();
  return tape.record("sigmoid_gate", {r, v}, gate(tape, {}, r.value(), v.value()),
                     [rv = r.value(), vv = v.value(), &tape](std::span<Tensor> grad, Grads& grads) {
                       gate_backward(tape, rv, vv, grad[0], grads, 0);
                     });
}

Var sigmoid_gate_residual(const Var& x, const Var& r, const Var& v) {
  Tape& tape = x.tape();
  return tape.record("sigmoid_gate_residual", {x, r, v}, gate(tape, x.value(), r.value(), v.value()),
                     [rv = r.value(), vv = v.value(), &tape](std::span<Tensor> grad, Grads& grads) {
                       const Tensor dout = std::move(grad[0]);
                       if (grads.wants(0)) grads.add(0, dout);
                       gate_backward(tape, rv, vv, dout, grads, 1);
                     });
}

Var dropout(const Var& x, double p, const DropoutKey& key) {
  GF_CHECK(p >= 0 && p < 1, "dropout with probability ", p);
  if (p == 0) return x;
  Tape& tape = x.tape();
  GF_CHECK(!key.samples_B.empty() && static_cast<int64_t>(key.samples_B.size()) == x.size(0), "dropout ", key.name,
           ": ", key.samples_B.size(), " sample numbers for ", x.shape());
  Mask mask{Random(key.seed, key.name), key.samples_B, p};
  Tensor y = tape.empty(x.shape(), x.value().dtype());
  mask.apply(x.value(), y);
  return tape.record("dropout", {x}, std::move(y),
                     [mask = std::move(mask), &tape](std::span<Tensor> grad, Grads& grads) {
                       Tensor d = tape.writable(std::move(grad[0]));
                       mask.apply(d, d);
                       grads.add(0, std::move(d));
                     });
}

Var broadcast_rows(const Var& row, const Shape& shape) {
  Tape& tape = row.tape();
  const int64_t C = row.value().numel();
  GF_CHECK(shape.rank() > 0 && shape[-1] == C, "broadcast_rows: a row of ", row.shape(), " into ", shape);
  Tensor out = tape.empty(shape, row.value().dtype());
  const int64_t M = out.numel() / C;
  with_real(out.dtype(), [&]<class T>(Type<T>) {
    const BroadcastRowsArgs<T> args{.M = M, .C = C, .row = row.value().data<T>(), .out = out.data<T>()};
    on_device(
        out.device(), args, [](const auto& p) { cpu::broadcast_rows(p); },
        [](const auto& p, auto stream) { cuda::broadcast_rows(p, stream); });
  });
  return tape.record("broadcast_rows", {row}, std::move(out), [M, C, &tape](std::span<Tensor> grad, Grads& grads) {
    const Tensor dout = grad[0], sum = grads.sum(0),
                 partial = tape.empty({row_blocks(M).size(), C}, inner(dout.dtype()));
    with_real(dout.dtype(), [&]<class T>(Type<T>) {
      const BroadcastRowsBackwardArgs<T> args{
          .M = M, .C = C, .dout = dout.data<T>(), .drow = sum.data<Inner<T>>(), .partial = partial.data<Inner<T>>()};
      on_device(
          dout.device(), args, [](const auto& p) { cpu::broadcast_rows_backward(p); },
          [](const auto& p, auto stream) { cuda::broadcast_rows_backward(p, stream); });
    });
  });
}

}  // namespace gf
