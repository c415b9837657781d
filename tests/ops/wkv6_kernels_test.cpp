// SPDX-License-Identifier: Apache-2.0
// The kernels of WKV6 by themselves: gradients of states, which the op does not ask for, and on a GPU each of the two
// forms, whatever the op would choose.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "base/random.h"
#include "ops/wkv6/kernels.h"
#include "tensor/arithmetic.h"
#include "tensor/float_formats.h"
#include "tensor/tensor.h"

namespace gf {
namespace {

struct Problem {
  int64_t B, T, H, N;
  bool bonus, add, scale_keys, states;
  double w_low = -6, w_high = 1;
};

using Values = std::vector<double>;
using Named = std::map<std::string, Values>;

// Numbers that are bf16, so that every type has the same.
Values hashed(const std::string& name, int64_t n, double low, double high) {
  Values values;
  for (int64_t i = 0; i < n; ++i) {
    const double x = low + (high - low) * Random(11, name).unit(static_cast<uint64_t>(i));
    values.push_back(float_from_bf16(bf16_from_float(static_cast<float>(x))));
  }
  return values;
}

Named inputs_of(const Problem& p) {
  const int64_t rows = p.B * p.T * p.H * p.N, state = p.B * p.H * p.N * p.N;
  Named in;
  for (const char* name : {"r", "k", "v", "add", "dy"}) in[name] = hashed(name, rows, -1, 1);
  in["w"] = hashed("w", rows, p.w_low, p.w_high);
  in["u"] = hashed("u", p.H * p.N, -1, 1);
  for (const char* name : {"state", "dstate_last"}) in[name] = hashed(name, state, -1, 1);
  return in;
}

template <class T>
Tensor tensor_of(const Values& values, Device device) {
  Tensor t = Tensor::empty({static_cast<int64_t>(values.size())}, dtype_of<T>, kCpu);
  for (size_t i = 0; i < values.size(); ++i)
    if constexpr (std::is_same_v<T, BFloat16>)
      t.data<T>()[i] = {bf16_from_float(static_cast<float>(values[i]))};
    else
      t.data<T>()[i] = static_cast<T>(values[i]);
  if (device == kCpu) return t;
  Tensor there = Tensor::empty(t.shape(), t.dtype(), device);
  copy(t, there);
  return there;
}

template <class T>
Values values_of(const Tensor& t) {
  const Tensor here = Tensor::empty(t.shape(), t.dtype(), kCpu);
  copy(t, here);
  Values values;
  for (int64_t i = 0; i < t.numel(); ++i)
    if constexpr (std::is_same_v<T, BFloat16>)
      values.push_back(float_from_bf16(here.data<T>()[i].bits));
    else
      values.push_back(static_cast<double>(here.data<T>()[i]));
  return values;
}

template <class T>
struct Kernels {
  Device device;
  std::function<void(const Wkv6Args<T>&)> forward;
  std::function<void(const Wkv6BackwardArgs<T>&)> backward;
  int64_t forward_scratch = 0, backward_scratch = 0;
};

// All results of both passes. Memory that is to be written is full of NaN before.
template <class T>
Named run(const Problem& p, const Named& in, const Kernels<T>& kernels) {
  using I = Inner<T>;
  std::map<std::string, Tensor> t;
  const auto give = [&]<class Number>(const char* name, Type<Number>) {
    t[name] = tensor_of<Number>(in.at(name), kernels.device);
    return t[name].data<Number>();
  };
  const auto want = [&]<class Number>(const char* name, int64_t size, Type<Number>) {
    t[name] = tensor_of<Number>(Values(static_cast<size_t>(size), NAN), kernels.device);
    return t[name].data<Number>();
  };
  const auto scratch = [&](int64_t bytes) {
    t["scratch"] = tensor_of<float>(Values(static_cast<size_t>(bytes / 4 + 1), NAN), kernels.device);
    return t["scratch"].raw();
  };
  const Type<T> number{};
  const Type<I> inner{};
  const int64_t rows = p.B * p.T * p.H * p.N;
  Wkv6Args<T> f{.B = p.B,
                .Tn = p.T,
                .H = p.H,
                .N = p.N,
                .r = give("r", number),
                .k = give("k", number),
                .v = give("v", number),
                .w = give("w", number),
                .u = p.bonus ? give("u", number) : nullptr,
                .add = p.add ? give("add", number) : nullptr,
                .scale_keys = p.scale_keys,
                .y = want("y", rows, number),
                .state = p.states ? give("state", inner) : nullptr,
                .scratch = scratch(kernels.forward_scratch)};
  kernels.forward(f);
  Named out;
  out["y"] = values_of<T>(t["y"]);
  if (p.states) out["last state"] = values_of<I>(t["state"]);
  f.state = p.states ? give("state", inner) : nullptr;
  f.scratch = scratch(kernels.backward_scratch);
  Wkv6BackwardArgs<T> b{.forward = f,
                        .dy = give("dy", number),
                        .dr = want("dr", rows, number),
                        .dk = want("dk", rows, number),
                        .dv = want("dv", rows, number),
                        .dw = want("dw", rows, number),
                        .du_partial = p.bonus ? want("du", p.B * p.H * p.N, inner) : nullptr,
                        .dstate_last = p.states ? give("dstate_last", inner) : nullptr,
                        .dstate_first = p.states ? want("dstate_first", p.B * p.H * p.N * p.N, inner) : nullptr};
  kernels.backward(b);
  for (const char* name : {"dr", "dk", "dv", "dw"}) out[name] = values_of<T>(t[name]);
  for (const char* name : {"du", "dstate_first"})
    if (t.contains(name)) out[name] = values_of<I>(t[name]);
  return out;
}

Kernels<double> on_cpu() {
  return {.device = kCpu,
          .forward = [](const auto& p) { cpu::wkv6(p); },
          .backward = [](const auto& p) { cpu::wkv6_backward(p); }};
}

double distance(const Values& got, const Values& want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) error += (got[i] - want[i]) * (got[i] - want[i]), norm += want[i] * want[i];
  return std::sqrt(error / norm);
}

void expect_close(const Named& got, const Named& want, double tolerance) {
  for (const auto& [name, values] : want) {
    ASSERT_EQ(got.at(name).size(), values.size()) << name;
    const double error = distance(got.at(name), values);
    EXPECT_TRUE(error <= tolerance) << name << ": relative error " << error;  // not of NaN
  }
}

// A sequence in two pieces, with the state and its gradient carried over: the whole.
TEST(Wkv6Kernels, GradientsGoThroughStates) {
  Problem whole{1, 71, 2, 5, true, false, true, true};
  const Named in = inputs_of(whole), want = run(whole, in, on_cpu());
  const int64_t C = whole.H * whole.N, cut = 40;
  const auto part = [&](const char* name, int64_t begin, int64_t end) {
    const Values& all = in.at(name);
    return Values(all.begin() + begin * C, all.begin() + end * C);
  };
  Problem pieces[2] = {whole, whole};
  Named given[2] = {in, in};
  pieces[0].T = cut, pieces[1].T = whole.T - cut;
  for (const char* name : {"r", "k", "v", "w", "add", "dy"})
    given[0][name] = part(name, 0, cut), given[1][name] = part(name, cut, whole.T);
  given[1]["state"] = run(pieces[0], given[0], on_cpu())["last state"];
  Named second = run(pieces[1], given[1], on_cpu());
  given[0]["dstate_last"] = second["dstate_first"];
  Named first = run(pieces[0], given[0], on_cpu());
  for (const char* name : {"y", "dr", "dk", "dv", "dw"}) {
    first[name].insert(first[name].end(), second[name].begin(), second[name].end());
    EXPECT_LT(distance(first[name], want.at(name)), 1e-13) << name;
  }
  for (size_t i = 0; i < first["du"].size(); ++i) first["du"][i] += second["du"][i];
  EXPECT_LT(distance(first["du"], want.at("du")), 1e-13);
  EXPECT_LT(distance(second["last state"], want.at("last state")), 1e-13);
  EXPECT_LT(distance(first["dstate_first"], want.at("dstate_first")), 1e-13);
}

// Float beside double, from states, over decays that fade a group of steps by little, by much, and by more than the
// scan leaves unfolded. 1e-3: the gradient of a strong decay is a small difference of large terms (ExtremeDecays).
TEST(Wkv6Kernels, FloatIsNearDouble) {
  for (const double w : {-13.0, -2.0, 0.8, 1.1, 1.3, 1.5}) {
    SCOPED_TRACE(w);
    const Problem p{1, 75, 2, 24, true, true, true, true, w, w + 0.2};
    const Named in = inputs_of(p);
    const Kernels<float> kernels{.device = kCpu,
                                 .forward = [](const auto& a) { cpu::wkv6(a); },
                                 .backward = [](const auto& a) { cpu::wkv6_backward(a); }};
    expect_close(run(p, in, kernels), run(p, in, on_cpu()), w < 1 ? 1e-5 : 1e-3);
  }
}

// To the bit, also where later decays are so strong that they are folded at once.
TEST(Wkv6Kernels, NothingDependsOnLaterSteps) {
  const Problem p{1, 75, 2, 16, true, false, true, false, -6, 2};
  constexpr int64_t kCut = 43;
  const auto rows = static_cast<size_t>(kCut * p.H * p.N);
  const Kernels<float> kernels{.device = kCpu,
                               .forward = [](const auto& a) { cpu::wkv6(a); },
                               .backward = [](const auto& a) { cpu::wkv6_backward(a); }};
  const Named in = inputs_of(p);
  Values want = run(p, in, kernels).at("y");
  want.resize(rows);
  for (const double w : {-13.0, 5.0}) {
    Named other = in;
    for (const char* name : {"r", "k", "v", "w"})
      std::fill(other[name].begin() + static_cast<int64_t>(rows), other[name].end(), name[0] == 'w' ? w : 2.0);
    Values got = run(p, other, kernels).at("y");
    got.resize(rows);
    EXPECT_EQ(got, want) << w;
  }
}

constexpr Device kGpu{Device::Kind::cuda, 0};

template <class T>
Kernels<T> on_gpu(const Problem& p, cuda::Wkv6Kernel which) {
  Kernels<T> kernels{.device = kGpu, .forward = {}, .backward = {}};
  if constexpr (kWithCuda) {
    const Wkv6Args<T> shape{.B = p.B,
                            .Tn = p.T,
                            .H = p.H,
                            .N = p.N,
                            .r = {},
                            .k = {},
                            .v = {},
                            .w = {},
                            .u = {},
                            .add = {},
                            .scale_keys = {},
                            .y = {},
                            .state = {}};
    const cuda::Wkv6Scratch bytes = cuda::wkv6_scratch(shape, which);
    kernels.forward_scratch = bytes.forward, kernels.backward_scratch = bytes.backward;
    if constexpr (std::is_same_v<T, BFloat16>)
      if (which == cuda::Wkv6Kernel::chunked) {
        kernels.forward = [](const auto& a) { cuda::wkv6_chunked(a, cuda::current_stream()); };
        kernels.backward = [](const auto& a) { cuda::wkv6_chunked_backward(a, cuda::current_stream()); };
        return kernels;
      }
    kernels.forward = [](const auto& a) { cuda::wkv6_sequential(a, cuda::current_stream()); };
    kernels.backward = [](const auto& a) { cuda::wkv6_sequential_backward(a, cuda::current_stream()); };
  }
  return kernels;
}

// 4e-3: results are rounded to bf16 (2^-9 at most), and so are the operands of products in the chunked form.
void check_on_gpu(const Problem& p, bool chunked_only = false) {
  if constexpr (kWithCuda) {
    SCOPED_TRACE(cat("B ", p.B, " T ", p.T, " H ", p.H, " N ", p.N, " w ", p.w_low, " to ", p.w_high));
    const Named in = inputs_of(p), want = run(p, in, on_cpu());
    {
      SCOPED_TRACE("chunked, bf16");
      const auto kernels = on_gpu<BFloat16>(p, cuda::Wkv6Kernel::chunked);
      const Named got = run(p, in, kernels);
      expect_close(got, want, 4e-3);
      EXPECT_EQ(run(p, in, kernels), got) << "a second run";
    }
    if (chunked_only) return;
    const auto which = cuda::Wkv6Kernel::sequential;
    {
      SCOPED_TRACE("sequential, bf16");
      expect_close(run(p, in, on_gpu<BFloat16>(p, which)), want, 4e-3);
    }
    SCOPED_TRACE("sequential, float");
    expect_close(run(p, in, on_gpu<float>(p, which)), want, 1e-5);
    SCOPED_TRACE("sequential, double");
    expect_close(run(p, in, on_gpu<double>(p, which)), want, 1e-12);
  }
}

TEST(Wkv6Kernels, OnTheGpuFromStates) {
  check_on_gpu({2, 150, 2, 64, true, false, false, true});
  check_on_gpu({1, 128, 1, 64, false, true, true, true});
}
TEST(Wkv6Kernels, OnTheGpuAnyLength) {
  for (const int64_t T : {1, 15, 16, 17, 63, 64, 65}) check_on_gpu({1, T, 1, 64, true, true, true, T % 2 == 1}, true);
}
// Decays from 1e-9 to 1 - 1e-6, all of them and each alone.
TEST(Wkv6Kernels, OnTheGpuAnyDecay) {
  check_on_gpu({1, 200, 1, 64, true, false, false, true, -13.8, 3.03}, true);
  check_on_gpu({1, 200, 1, 64, false, true, true, false, -13.8, 3.03}, true);
  for (const double w : {-13.8, -6.0, -1.0, 1.0, 2.0, 2.5})
    check_on_gpu({1, 150, 1, 64, true, false, w < 0, false, w, w + 0.2}, true);
}

}  // namespace
}  // namespace gf
