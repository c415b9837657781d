// SPDX-License-Identifier: Apache-2.0
#include "ops/attention/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "ops/attention/kernels.h"
#include "support/hashed.h"
#include "support/op_check.h"
#include "tensor/float_formats.h"

namespace gf {
namespace {

OpCase attention_case(Shape shape, int64_t num_heads, AttentionBias bias = {}, double range = 1) {
  const OpInput input{shape, -range, range};
  return {"attention", {input, input, input}, [=](Tape&, const std::vector<Var>& in) {
            return std::vector{attention(in[0], in[1], in[2], num_heads, bias)};
          }};
}

TEST(Attention, Gradients) {
  check_gradients(attention_case({2, 5, 12}, 3, {}, 2));
  check_gradients(attention_case({1, 1, 2}, 2));
}
TEST(Attention, GradientsWithAlibi) {
  check_gradients(attention_case({2, 5, 12}, 3, AttentionBias::alibi, 2));
  check_gradients(attention_case({1, 7, 3}, 1, AttentionBias::alibi, 2));
}
TEST(Attention, LargeAndOdd) {
  check_float_and_bits(attention_case({1, 513, 3 * 20}, 3));     // one key beyond a block
  check_float_and_bits(attention_case({1, 700, 64}, 1, {}, 2));  // a block of queries that is not full
  check_float_and_bits(attention_case({1, 1100, 3 * 8}, 3, AttentionBias::alibi, 2));  // three groups of keys
  check_float_and_bits(attention_case({1, 65, 2 * 128}, 2, AttentionBias::alibi));
  check_float_and_bits(attention_case({2, 67, 3 * 33}, 3));  // rows that begin anywhere
  check_float_and_bits(attention_case({1, 35, 256}, 1));
  check_float_and_bits(attention_case({1, 34, 130}, 1, AttentionBias::alibi));
}

// A lone token sees itself: the output is its value, and no query or key could change that.
TEST(Attention, OneToken) {
  OpCase only_values = attention_case({3, 1, 40}, 5);
  only_values.inputs[0].differentiable = only_values.inputs[1].differentiable = false;
  check_float_and_bits(only_values);
  Arena arena(kCpu);
  Tape tape(arena);
  const auto leaf = [&](const char* name) { return tape.leaf(hashed<float>(name, {3, 1, 40}, 1), true); };
  const Var q = leaf("q"), k = leaf("k"), v = leaf("v"), y = attention(q, k, v, 5);
  const Tensor dy = hashed<float>("dy", {3, 1, 40}, 1);
  tape.backward(std::vector<Tape::Seed>{{y, dy}});
  for (int64_t i = 0; i < y.value().numel(); ++i) {
    EXPECT_EQ(y.value().data<float>()[i], v.value().data<float>()[i]);
    EXPECT_EQ(tape.grad(v).data<float>()[i], dy.data<float>()[i]);
    EXPECT_NEAR(tape.grad(q).data<float>()[i], 0, 1e-6);  // two sums of eight products, taken in different orders
    EXPECT_NEAR(tape.grad(k).data<float>()[i], 0, 1e-6);
  }
}

struct Sizes {
  int64_t B, Tq, Tk, H, N;
  bool alibi;
  double range;  // of queries and keys
};

// Straight from the formula, in double, one query of one head after the other.
class Naive {
 public:
  Naive(const Sizes& sizes, std::vector<double> q, std::vector<double> k, std::vector<double> v, std::vector<double> dy)
      : y(q.size()), dq(q.size()), dk(k.size()), dv(k.size()), s_(sizes), q_(q), k_(k), v_(v), dy_(dy) {
    for (int64_t b = 0; b < s_.B; ++b)
      for (int64_t h = 0; h < s_.H; ++h)
        for (int64_t i = 0; i < s_.Tq; ++i) run(b, h, i);
  }
  std::vector<double> y, dq, dk, dv;

 private:
  void run(int64_t b, int64_t h, int64_t i) {
    const int64_t C = s_.H * s_.N, N = s_.N, position = i + s_.Tk - s_.Tq, query = (b * s_.Tq + i) * C + h * N;
    const auto key = [&](int64_t j) { return (b * s_.Tk + j) * C + h * N; };
    const auto dot = [N](const double* x, const double* z) { return std::inner_product(x, x + N, z, 0.0); };
    const double scale = 1 / std::sqrt(static_cast<double>(N));
    std::vector<double> w(position + 1), dw(position + 1);
    for (int64_t j = 0; j <= position; ++j)
      w[j] = dot(&q_[query], &k_[key(j)]) * scale - (s_.alibi ? static_cast<double>(position - j) * slope(h) : 0);
    const double top = *std::max_element(w.begin(), w.end());
    double sum = 0, mean = 0;
    for (double& x : w) sum += x = std::exp(x - top);
    for (int64_t j = 0; j <= position; ++j) {
      w[j] /= sum;
      dw[j] = dot(&dy_[query], &v_[key(j)]);
      mean += w[j] * dw[j];
    }
    for (int64_t j = 0; j <= position; ++j) {
      const double ds = w[j] * (dw[j] - mean) * scale;
      for (int64_t c = 0; c < N; ++c) {
        y[query + c] += w[j] * v_[key(j) + c];
        dv[key(j) + c] += w[j] * dy_[query + c];
        dq[query + c] += ds * k_[key(j) + c];
        dk[key(j) + c] += ds * q_[query + c];
      }
    }
  }
  // 2^linspace(-8/H, -8, H), written out for the numbers of heads that the tests use.
  double slope(int64_t h) const {
    return s_.H == 2 ? std::vector{1.0 / 16, 1.0 / 256}.at(h)
                     : std::vector{std::exp2(-8.0 / 3), std::exp2(-16.0 / 3), 1.0 / 256}.at(h);
  }

  Sizes s_;
  std::vector<double> q_, k_, v_, dy_;
};

std::vector<double> as_double(const Tensor& there) {
  const Tensor t = on(kCpu, there);
  std::vector<double> v(t.numel());
  with_real(t.dtype(), [&]<class T>(Type<T>) {
    for (int64_t i = 0; i < t.numel(); ++i)
      if constexpr (std::is_same_v<T, BFloat16>)
        v[i] = float_from_bf16(t.data<T>()[i].bits);
      else
        v[i] = t.data<T>()[i];
  });
  return v;
}

// hashed(), as Ts; on a CPU.
template <class T>
Tensor numbers(const char* name, const Shape& shape, double range) {
  const Tensor t = hashed<Inner<T>>(name, shape, range);
  if constexpr (std::is_same_v<T, Inner<T>>) {
    return t;
  } else {
    Tensor narrow = Tensor::empty(shape, DType::bf16, kCpu);
    for (int64_t i = 0; i < t.numel(); ++i) narrow.data<T>()[i] = {bf16_from_float(t.data<float>()[i])};
    return narrow;
  }
}

constexpr Device kGpu{Device::Kind::cuda, 0};

// Largest difference over the largest value; NaN counts as infinite.
double difference(const Tensor& got, const std::vector<double>& want) {
  const std::vector<double> g = as_double(got);
  double worst = 0, scale = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::fabs(g[i] - want[i]);
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
    scale = std::max(scale, std::fabs(want[i]));
  }
  return worst / scale;
}

// The kernels themselves, also with fewer queries than keys.
template <class T>
void compare_with_naive(const Sizes& s, double tolerance, Device device = kCpu) {
  SCOPED_TRACE(cat(device, " ", dtype_of<T>, ": B ", s.B, " Tq ", s.Tq, " Tk ", s.Tk, " H ", s.H, " N ", s.N, " range ",
                   s.range));
  const Shape queries{s.B, s.Tq, s.H * s.N}, keys{s.B, s.Tk, s.H * s.N}, rows{s.B, s.H, s.Tq};
  const auto make = [&](const Shape& shape) { return Tensor::empty(shape, dtype_of<T>, device); };
  const auto make_inner = [&](const Shape& shape) { return Tensor::empty(shape, dtype_of<Inner<T>>, device); };
  const auto given = [&](const char* name, const Shape& shape, double range) {
    return on(device, numbers<T>(name, shape, range));
  };
  const Tensor q = given("q", queries, s.range), k = given("k", keys, s.range), v = given("v", keys, 1);
  const Tensor dy = given("dy", queries, 1), y = make(queries), lse = make_inner(rows), delta = make_inner(rows);
  const Tensor dq = make(queries), dk = make(keys), dv = make(keys);
  const Tensor partial = make_inner({attention_key_groups(s.B, s.H, s.Tk), s.B, s.Tq, s.H * s.N});
  on_device(
      device,
      AttentionArgs<T>{s.B, s.Tq, s.Tk, s.H, s.N, s.Tk - s.Tq, false, s.alibi, q.data<T>(), k.data<T>(), v.data<T>(),
                       y.data<T>(), lse.data<Inner<T>>()},
      [](const auto& p) { cpu::attention(p); }, [](const auto& p, auto stream) { cuda::attention(p, stream); });
  on_device(
      device,
      AttentionBackwardArgs<T>{s.B, s.Tq, s.Tk, s.H, s.N, s.Tk - s.Tq, s.alibi, q.data<T>(), k.data<T>(), v.data<T>(),
                               y.data<T>(), lse.data<Inner<T>>(), dy.data<T>(), dq.data<T>(), dk.data<T>(),
                               dv.data<T>(), delta.data<Inner<T>>(), partial.data<Inner<T>>()},
      [](const auto& p) { cpu::attention_backward(p); },
      [](const auto& p, auto stream) { cuda::attention_backward(p, stream); });
  const Naive naive(s, as_double(q), as_double(k), as_double(v), as_double(dy));
  EXPECT_LT(difference(y, naive.y), tolerance);
  EXPECT_LT(difference(dq, naive.dq), tolerance);
  EXPECT_LT(difference(dk, naive.dk), tolerance);
  EXPECT_LT(difference(dv, naive.dv), tolerance);
}

// In each of a GPU's types. In bf16 a weight and the gradient of a score have an error of 2^-9, and so has a result.
void compare_on_gpu([[maybe_unused]] const Sizes& s) {
  if constexpr (kWithCuda) {
    compare_with_naive<double>(s, 1e-12, kGpu);
    compare_with_naive<float>(s, 1e-5, kGpu);
    compare_with_naive<BFloat16>(s, 2e-2, kGpu);
  }
}

TEST(Attention, AgreesWithTheFormula) {
  for (const Sizes& s : {Sizes{2, 130, 130, 3, 8, false, 2}, Sizes{1, 600, 600, 2, 16, true, 2},
                         Sizes{1, 2, 2, 2, 128, false, 1}, Sizes{1, 1090, 1090, 2, 10, false, 2}}) {
    compare_with_naive<double>(s, 1e-12);  // sums of a thousand terms, each to 1e-16
    compare_with_naive<float>(s, 1e-5);    // the same, each to 6e-8
  }
}

TEST(Attention, FewerQueriesThanKeys) {
  for (const Sizes& s : {Sizes{2, 1, 77, 2, 8, false, 2}, Sizes{1, 100, 1000, 3, 16, true, 2},
                         Sizes{1, 70, 520, 2, 64, false, 1}, Sizes{1, 600, 1537, 2, 10, false, 2}})
    compare_with_naive<double>(s, 1e-12);
  for (const Sizes& s : {Sizes{2, 1, 77, 2, 8, false, 2}, Sizes{1, 40, 200, 3, 16, true, 2},
                         Sizes{1, 70, 135, 2, 64, false, 1}, Sizes{1, 3, 66, 2, 128, true, 1}})
    compare_on_gpu(s);
}

// Also blocks that no query or only the later queries see, and those that come before others.
template <class T>
void compare_block_by_block(AttentionBias bias, double tolerance, Device device = kCpu) {
  SCOPED_TRACE(cat(device, " ", dtype_of<T>));
  constexpr int64_t kQueries = 90, kKeys = 700, H = 3, N = 8, C = H * N;
  Arena arena(device);
  Tape tape(arena, Tape::Mode::evaluate);
  const Tensor q = numbers<T>("q", {1, kKeys, C}, 2), k = numbers<T>("k", {1, kKeys, C}, 2);
  const Tensor v = numbers<T>("v", {1, kKeys, C}, 1);
  const auto part = [&](const Tensor& t, int64_t begin, int64_t end) {
    return on(device, t.view({kKeys, C}).slice(begin, end).view({1, end - begin, C}));
  };
  const auto leaf = [&](const Tensor& t) { return tape.leaf(on(device, t), false); };
  const Tensor whole = on(kCpu, attention(leaf(q), leaf(k), leaf(v), H, bias).value());
  const int64_t first = 500;
  RunningAttention some(leaf(part(q, first, first + kQueries)), H, bias, first);
  for (const auto& [begin, end] :
       std::vector<std::pair<int64_t, int64_t>>{{640, 700}, {0, 256}, {512, 640}, {256, 512}})
    some.add(part(k, begin, end), part(v, begin, end), begin);
  const Tensor wanted = whole.view({kKeys, C}).slice(first, first + kQueries);
  EXPECT_LT(difference(some.result().value(), as_double(wanted)), tolerance);
}

TEST(Attention, KeysBlockByBlock) {
  for (const AttentionBias bias : {AttentionBias::none, AttentionBias::alibi}) {
    compare_block_by_block<double>(bias, 1e-12);  // sums of a thousand terms, each to 1e-16
    if constexpr (kWithCuda) {
      compare_block_by_block<double>(bias, 1e-12, kGpu);
      compare_block_by_block<float>(bias, 1e-5, kGpu);
      compare_block_by_block<BFloat16>(bias, 2e-2, kGpu);  // y is rounded after each block
    }
  }
}

// Scores up to 30 * 30 * 64 / 8 = 7200: exp of one would be far beyond a float. Each score is then good to some
// 7200 * 6e-8 * a few = 1e-3, and so are the weights.
TEST(Attention, LargeScores) {
  compare_with_naive<float>({1, 600, 600, 2, 64, false, 30}, 5e-3);
}

// The largest score may come last: what was summed up before shrinks to nothing, without a NaN.
TEST(Attention, ScoresThatRiseByBlocks) {
  constexpr int64_t T = 1100;
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  Tensor q = arena.empty({1, T, 8}, DType::f32), k = arena.empty({1, T, 8}, DType::f32),
         v = arena.empty({1, T, 8}, DType::f32);
  for (int64_t i = 0; i < T * 8; ++i)
    q.data<float>()[i] = 30, k.data<float>()[i] = static_cast<float>(i / 8),
    v.data<float>()[i] = static_cast<float>(i / 8);
  const Var y = attention(tape.leaf(q, false), tape.leaf(k, false), tape.leaf(v, false), 1);
  // A query's own key wins by 30 * 8 / sqrt(8) = 85 over the one before.
  for (int64_t i = 0; i < T * 8; ++i) ASSERT_EQ(y.value().data<float>()[i], static_cast<float>(i / 8)) << i;
}

template <class T>
void expect_nan_stays(Device device) {
  Arena arena(device);
  Tape tape(arena, Tape::Mode::evaluate);
  const Tensor q = numbers<T>("q", {1, 5, 8}, 1), k = numbers<T>("k", {1, 5, 8}, 1), v = numbers<T>("v", {1, 5, 8}, 1);
  if constexpr (std::is_same_v<T, BFloat16>)
    k.data<T>()[3 * 8] = {0x7fc0};
  else
    k.data<T>()[3 * 8] = NAN;
  const auto leaf = [&](const Tensor& t) { return tape.leaf(on(device, t), false); };
  const std::vector<double> y = as_double(attention(leaf(q), leaf(k), leaf(v), 1).value());
  for (int64_t i = 0; i < 5 * 8; ++i)
    EXPECT_EQ(std::isnan(y[i]), i >= 3 * 8) << device << " " << dtype_of<T> << " " << i;
}

TEST(Attention, NaNStays) {
  expect_nan_stays<float>(kCpu);
  if constexpr (kWithCuda) {
    expect_nan_stays<float>(kGpu);
    expect_nan_stays<BFloat16>(kGpu);
  }
}

// Values at later positions do not reach earlier outputs, not even their last bit.
TEST(Attention, SeesOnlyThePast) {
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  constexpr int64_t T = 600, kChanged = 555;
  const auto run = [&](float add) {
    const Tensor q = hashed<float>("q", {1, T, 8}, 1), k = hashed<float>("k", {1, T, 8}, 1),
                 v = hashed<float>("v", {1, T, 8}, 1);
    for (int64_t i = kChanged * 8; i < T * 8; ++i) k.data<float>()[i] += add, v.data<float>()[i] += add;
    return attention(tape.leaf(q, false), tape.leaf(k, false), tape.leaf(v, false), 2).value();
  };
  const Tensor a = run(0), b = run(1);
  for (int64_t i = 0; i < T * 8; ++i) ASSERT_EQ(a.data<float>()[i] == b.data<float>()[i], i < kChanged * 8) << i;
}

TEST(Attention, AlibiSlopes) {
  EXPECT_DOUBLE_EQ(alibi_slope(0, 1), std::exp2(-8.0));
  EXPECT_DOUBLE_EQ(alibi_slope(0, 8), std::exp2(-1.0));
  EXPECT_DOUBLE_EQ(alibi_slope(4, 8), std::exp2(-5.0));
  EXPECT_DOUBLE_EQ(alibi_slope(7, 8), std::exp2(-8.0));
  EXPECT_DOUBLE_EQ(alibi_slope(1, 3), std::exp2(-16.0 / 3));
}

TEST(Attention, MemoryIsLinearInLength) {
  const auto peak = [](int64_t T) {
    Arena arena(kMeta);  // asks for what the CPU would
    Tape tape(arena);
    const auto leaf = [&] { return tape.leaf(tape.empty({1, T, 256}, DType::f32), true); };
    const Var y = attention(leaf(), leaf(), leaf(), 4);
    tape.backward(std::vector<Tape::Seed>{{y, tape.empty(y.shape(), DType::f32)}});
    return static_cast<double>(arena.peak_bytes());
  };
  EXPECT_NEAR(peak(8192) / peak(4096), 2, 0.01);
  EXPECT_NEAR(peak(16384) / peak(8192), 2, 0.01);
  // q, k, v, y, their four gradients and three partial dq, and a few numbers a query and head.
  EXPECT_LT(peak(16384), 11.5 * 16384 * 256 * 4);
}

TEST(Attention, SaysWhatDoesNotFit) {
  Arena arena(kCpu);
  Tape tape(arena);
  const auto leaf = [&](Shape s) { return tape.leaf(arena.empty(s, DType::f32), false); };
  const auto message = [&](Shape q, Shape k, Shape v, int64_t heads) -> std::string {
    try {
      attention(leaf(q), leaf(k), leaf(v), heads);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_NE(message({1, 4, 8}, {1, 5, 8}, {1, 4, 8}, 2).find("keys is 1x5x8, expected 1x4x8"), std::string::npos);
  EXPECT_NE(message({1, 4, 8}, {1, 4, 8}, {1, 4, 6}, 2).find("values is 1x4x6, expected 1x4x8"), std::string::npos);
  EXPECT_NE(message({1, 4, 8}, {1, 4, 8}, {1, 4, 8}, 3).find("3 heads of queries 1x4x8"), std::string::npos);
}

}  // namespace
}  // namespace gf
