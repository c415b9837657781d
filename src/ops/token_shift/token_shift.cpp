// SPDX-License-Identifier: Apache-2.0
#include "ops/token_shift/token_shift.h"

#include "ops/token_shift/kernels.h"

namespace gf {
namespace {

struct Saved {
  Tensor x, before;
  std::vector<Tensor> mixes;
  ShiftMix kind;
};

template <class T>
TokenShiftArgs<T> args_of(const Saved& s, std::span<const Tensor> out) {
  TokenShiftArgs<T> args{.B = s.x.size(0),
                         .Tn = s.x.size(1),
                         .C = s.x.size(2),
                         .count = static_cast<int>(s.mixes.size()),
                         .toward_current = s.kind == ShiftMix::toward_current,
                         .x = s.x.data<T>(),
                         .mix = {},
                         .before = data_or_null<T>(s.before),
                         .out = {}};
  for (size_t i = 0; i < s.mixes.size(); ++i) {
    args.mix[i] = s.mixes[i].data<T>();
    if (!out.empty()) args.out[i] = out[i].data<T>();
  }
  return args;
}

// Inputs on the tape: x, then the mixes.
void backward(Tape& tape, const Saved& s, std::span<Tensor> grad, Grads& grads) {
  const int64_t count = static_cast<int64_t>(s.mixes.size()), rows = s.x.size(0) * s.x.size(1), C = s.x.size(2);
  Tensor dx = grads.wants(0) ? tape.empty(s.x.shape(), s.x.dtype()) : Tensor();
  const Tensor partial = tape.empty({row_blocks(rows, C, s.x.device()).size(), count, C}, inner(s.x.dtype()));
  with_real(s.x.dtype(), [&]<class T>(Type<T>) {
    TokenShiftBackwardArgs<T> args{args_of<T>(s, {}), {}, data_or_null<T>(dx), {}, partial.data<Inner<T>>()};
    for (int64_t i = 0; i < count; ++i) {
      if (grad[i]) args.dout[i] = grad[i].data<T>();
      if (const Tensor dmix = grads.sum(static_cast<int>(i) + 1)) args.dmix[i] = dmix.data<Inner<T>>();
    }
    on_device(
        s.x.device(), args, [](const auto& p) { cpu::token_shift_backward(p); },
        [](const auto& p, auto stream) { cuda::token_shift_backward(p, stream); });
  });
  if (dx) grads.add(0, std::move(dx));
}

}  // namespace

std::vector<Var> token_shift(const Var& x, std::span<const Var> mixes, ShiftMix kind, const Tensor& before) {
  GF_CHECK(x.shape().rank() == 3, "token_shift: x is ", x.shape());
  GF_CHECK(!mixes.empty() && mixes.size() <= kMaxShiftOutputs, "token_shift with ", mixes.size(), " mixes");
  Tape& tape = x.tape();
  GF_CHECK(!before || !tape.recording(), "token_shift: no gradient where rows came before");
  if (before) check_shape("token_shift", "the rows before", before, {x.size(0), x.size(2)});
  Saved s{x.value(), before, {}, kind};
  std::vector<Tensor> out;
  std::vector<Var> inputs{x};
  for (const Var& m : mixes) {
    GF_CHECK(m.value().numel() == x.size(2), "token_shift: x is ", x.shape(), ", a mix ", m.shape());
    s.mixes.push_back(m.value());
    inputs.push_back(m);
    out.push_back(tape.empty(x.shape(), x.value().dtype()));
  }
  with_real(s.x.dtype(), [&]<class T>(Type<T>) {
    const TokenShiftArgs<T> args = args_of<T>(s, out);
    on_device(
        s.x.device(), args, [](const auto& p) { cpu::token_shift(p); },
        [](const auto& p, auto stream) { cuda::token_shift(p, stream); });
  });
  return tape.record(
      "token_shift", inputs, std::move(out),
      [s = std::move(s), &tape](std::span<Tensor> grad, Grads& grads) { backward(tape, s, grad, grads); });
}

}  // namespace gf
