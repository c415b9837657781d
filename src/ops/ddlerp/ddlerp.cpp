// SPDX-License-Identifier: Apache-2.0
#include "ops/ddlerp/ddlerp.h"

#include <algorithm>

#include "base/trace.h"
#include "ops/ddlerp/kernels.h"

namespace gf {
namespace {

struct Saved {
  Tensor before, mix_x, w1, w2, z;
  std::vector<Tensor> mixes, sources;  // sources: each once, x first
  std::vector<int> source_of;          // target -> index into sources
  int64_t R;
};

template <class T>
DdlerpArgs<T> args_of(const Saved& s) {
  const Tensor& x = s.sources[0];
  DdlerpArgs<T> args{};
  args.B = x.size(0), args.Tn = x.size(1), args.C = x.size(2), args.R = s.R;
  args.targets = static_cast<int>(s.mixes.size()), args.num_sources = static_cast<int>(s.sources.size());
  for (size_t i = 0; i < s.sources.size(); ++i) args.sources[i] = s.sources[i].data<T>();
  args.before = data_or_null<T>(s.before);
  for (size_t i = 0; i < s.mixes.size(); ++i) {
    args.source_of[i] = s.source_of[i];
    args.mix[i] = s.mixes[i].data<T>();
  }
  args.mix_x = s.mix_x.data<T>(), args.w1 = s.w1.data<T>(), args.w2 = s.w2.data<T>(), args.z = s.z.data<T>();
  return args;
}

// Of the two products with w1 and w2.
double product_flops(const Tensor& x, const Tensor& z) {
  return 4.0 * static_cast<double>(x.numel() * z.size(1));
}

// Of the backward pass: factors and what follows only on a GPU, whose products are of all rows at once, and on the meta
// device that stands for one.
struct Scratch {
  Tensor partial, factors, dshifted, dz;
};

Scratch scratch_of(Tape& tape, const Saved& s) {
  const Tensor& x = s.sources[0];
  const int64_t rows = x.size(0) * x.size(1), C = x.size(2), targets = static_cast<int64_t>(s.mixes.size());
  if (is_like_gpu(x.device()))
    return {tape.empty({gpu_row_blocks(rows, C).size(), targets + 1, C}, inner(x.dtype())),
            tape.empty({targets, rows, C}, x.dtype()), tape.empty({rows, C}, x.dtype()),
            tape.empty(s.z.shape(), x.dtype())};
  const DdlerpPartial at(C, s.R, targets, static_cast<int64_t>(s.sources.size()));
  return {tape.empty({ddlerp_blocks(rows).size(), at.size}, inner(x.dtype())), {}, {}, {}};
}

// Inputs on the tape, in this order: the distinct sources (x first), mix_x, w1, w2, mixes.
void backward(Tape& tape, const Saved& s, std::span<Tensor> grad, Grads& grads) {
  const Tensor& x = s.sources[0];
  const int num_sources = static_cast<int>(s.sources.size()), targets = static_cast<int>(s.mixes.size());
  std::vector<Tensor> dsources;
  for (const Tensor& source : s.sources) dsources.push_back(tape.empty(source.shape(), source.dtype()));
  Trace::add_flops(2 * product_flops(x, s.z));
  const Scratch scratch = scratch_of(tape, s);
  with_real(x.dtype(), [&]<class T>(Type<T>) {
    const auto sum = [&](int input) { return data_or_null<Inner<T>>(grads.sum(input)); };
    DdlerpBackwardArgs<T> args{};
    args.forward = args_of<T>(s);
    for (int i = 0; i < num_sources; ++i) args.dsources[i] = dsources[i].data<T>();
    args.dmix_x = sum(num_sources), args.dw1 = sum(num_sources + 1), args.dw2 = sum(num_sources + 2);
    for (int i = 0; i < targets; ++i) {
      args.dout[i] = data_or_null<T>(grad[i]);
      args.dmix[i] = sum(num_sources + 3 + i);
    }
    args.partial = scratch.partial.data<Inner<T>>();
    if (scratch.factors) {
      args.factors = scratch.factors.data<T>();
      args.dshifted = scratch.dshifted.data<T>(), args.dz = scratch.dz.data<T>();
    }
    on_device(
        x.device(), args, [](const auto& p) { cpu::ddlerp_backward(p); },
        [](const auto& p, auto stream) { cuda::ddlerp_backward(p, stream); });
  });
  for (int i = 0; i < num_sources; ++i)
    if (grads.wants(i)) grads.add(i, std::move(dsources[i]));
}

void check(const Ddlerp& op) {
  const auto n = static_cast<int64_t>(op.mixes.size());
  GF_CHECK(op.x.shape().rank() == 3, "ddlerp: x is ", op.x.shape());
  GF_CHECK(n >= 1 && n <= kMaxDdlerpTargets, "ddlerp with ", n, " targets");
  GF_CHECK(op.sources.empty() || op.sources.size() == op.mixes.size(), "ddlerp: ", op.sources.size(), " sources for ",
           n, " targets");
  const int64_t C = op.x.size(2), R = op.w2.size(-2);
  check_shape("ddlerp", "w1", op.w1.value(), {C, n * R});
  GF_CHECK(op.w2.size(-1) == C && op.w2.value().numel() == n * R * C, "ddlerp: w1 is ", op.w1.shape(), ", w2 ",
           op.w2.shape(), ", for ", n, " targets");
  GF_CHECK(op.mix_x.value().numel() == C, "ddlerp: x is ", op.x.shape(), ", mix_x ", op.mix_x.shape());
  for (const Var& m : op.mixes) GF_CHECK(m.value().numel() == C, "ddlerp: x is ", op.x.shape(), ", a mix ", m.shape());
  for (const Var& s : op.sources) check_shape("ddlerp", "a source", s.value(), op.x.shape());
  if (!op.before) return;
  check_shape("ddlerp", "the rows before", op.before, {op.x.size(0), C});
  GF_CHECK(op.sources.empty() && !op.x.tape().recording(), "ddlerp: rows before with sources or a gradient");
}

}  // namespace

std::vector<Var> ddlerp(const Ddlerp& op) {
  check(op);
  Tape& tape = op.x.tape();
  Saved s{op.before, op.mix_x.value(), op.w1.value(), op.w2.value(), {}, {}, {}, {}, op.w2.size(-2)};
  std::vector<Var> inputs{op.x};
  for (size_t i = 0; i < op.mixes.size(); ++i) {
    const Var& source = op.sources.empty() ? op.x : op.sources[i];
    const auto same = [&](const Var& v) { return v.same_as(source); };
    const auto found = std::find_if(inputs.begin(), inputs.end(), same);
    s.source_of.push_back(static_cast<int>(found - inputs.begin()));
    if (found == inputs.end()) inputs.push_back(source);
  }
  GF_CHECK(inputs.size() <= kMaxDdlerpSources, "ddlerp with ", inputs.size(), " sources");
  for (const Var& v : inputs) s.sources.push_back(v.value());
  inputs.insert(inputs.end(), {op.mix_x, op.w1, op.w2});
  std::vector<Tensor> out;
  for (const Var& m : op.mixes) {
    s.mixes.push_back(m.value());
    inputs.push_back(m);
    out.push_back(tape.empty(op.x.shape(), op.x.value().dtype()));
  }
  s.z = tape.empty({op.x.size(0) * op.x.size(1), op.w1.size(1)}, op.x.value().dtype());
  Trace::add_flops(product_flops(op.x.value(), s.z));
  with_real(op.x.value().dtype(), [&]<class T>(Type<T>) {
    DdlerpArgs<T> args = args_of<T>(s);
    for (size_t i = 0; i < out.size(); ++i) args.out[i] = out[i].data<T>();
    on_device(
        s.z.device(), args, [](const auto& p) { cpu::ddlerp(p); },
        [](const auto& p, auto stream) { cuda::ddlerp(p, stream); });
  });
  return tape.record("ddlerp", inputs, std::move(out), [s = std::move(s), &tape](std::span<Tensor> grad, Grads& grads) {
    backward(tape, s, grad, grads);
  });
}

}  // namespace gf
