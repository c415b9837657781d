// SPDX-License-Identifier: Apache-2.0
#include "ops/wkv6/wkv6.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/hashed.h"
#include "support/op_check.h"

namespace gf {
namespace {

struct Variant {
  bool bonus, add, scale_keys;
};

OpCase wkv_case(int64_t B, int64_t T, int64_t H, int64_t N, Variant variant, double w_low = -6, double w_high = 1) {
  const Shape shape{B, T, H * N};
  OpCase c{"wkv6", {{shape}, {shape}, {shape}, {shape, w_low, w_high}}, {}};
  if (variant.bonus) c.inputs.push_back({{H, N}});
  if (variant.add) c.inputs.push_back({shape});
  c.run = [=](Tape&, const std::vector<Var>& in) {
    Wkv6 op{in[0], in[1], in[2], in[3], {}, {}, H, variant.scale_keys};
    size_t next = 4;
    if (variant.bonus) op.u = in[next++];
    if (variant.add) op.add = in[next++];
    return std::vector{wkv6(op)};
  };
  return c;
}

constexpr Variant kFinch{true, false, false}, kFinchC2{false, true, true}, kPlain{false, false, false},
    kScaledBonus{true, false, true};

// The chunk-anchored sums of the decay's gradient carry up to 32 roundings of its largest term,
// multiplied by -log decay (up to 16). Five steps gave 4.4e-6 in a build with the address sanitizer; what rounds
// differently there has not been looked into.
OpCase looser(OpCase c, double tolerance) {
  c.float_tolerance = tolerance;
  return c;
}

TEST(Wkv6, GradientsFinch) {
  check_gradients(looser(wkv_case(2, 5, 2, 3, kFinch), 5e-6));
}
TEST(Wkv6, GradientsFinchC2) {
  check_gradients(wkv_case(2, 5, 2, 3, kFinchC2));
}
TEST(Wkv6, GradientsPlain) {
  check_gradients(wkv_case(1, 6, 1, 4, kPlain));
}
TEST(Wkv6, GradientsScaledKeysWithBonus) {
  check_gradients(wkv_case(1, 6, 1, 4, kScaledBonus));
}
TEST(Wkv6, GradientsAcrossChunks) {
  check_gradients(looser(wkv_case(1, 131, 1, 2, kFinch), 5e-6));
  check_gradients(looser(wkv_case(1, 70, 1, 2, kFinchC2, -1, 2), 3e-5));  // most of them folded at once
}

TEST(Wkv6, LargeAndOdd) {
  check_float_and_bits(wkv_case(1, 1, 1, 64, kFinch));
  check_float_and_bits(looser(wkv_case(3, 257, 3, 64, kFinchC2), 5e-6));
  check_float_and_bits(looser(wkv_case(2, 200, 2, 16, kFinch), 5e-6));
  check_float_and_bits(looser(wkv_case(1, 100, 1, 128, kFinch), 5e-6));
  check_float_and_bits(looser(wkv_case(1, 70, 3, 24, kScaledBonus), 5e-6));
}

// Decays from 1 - 1e-6 (w = -13.8) to 1e-9 (w = 3) and far beyond both ends: finite, and near the double result.
// The gradient of a strong decay is a small difference of terms of size one: 1e-7 of them is 1e-3 of a difference
// of 1e-4, and whoever trains with such decays has a gradient of that size beside others of size one.
TEST(Wkv6, ExtremeDecays) {
  check_float_and_bits(looser(wkv_case(1, 300, 1, 64, kFinch, -14, 3.1), 3e-5));
  OpCase strong = looser(wkv_case(1, 300, 1, 64, kFinchC2, 2, 20), 5e-3);
  strong.double_tolerance = 1e-11;  // as float's: 5e-3 times 2^-29
  check_float_and_bits(strong);
  check_float_and_bits(looser(wkv_case(1, 300, 1, 64, kFinchC2, -20, -10), 1e-5));
}

// The definition, straight from the header, in double: with decays that are folded once in a group of steps, with some
// that are folded sooner (kLeastUnfolded: at a mean of w near 1.24), and with both in turn.
TEST(Wkv6, EqualsItsDefinition) {
  constexpr int64_t T = 75, N = 4;
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  for (const double lowest : {-8.0, -1.0, 0.3, 1.0, 2.0}) {
    SCOPED_TRACE(lowest);
    std::vector<double> value[4];
    for (int i = 0; i < 4; ++i)
      for (int64_t j = 0; j < T * N; ++j) value[i].push_back(std::sin(1.0 + i + 0.37 * static_cast<double>(j)));
    for (double& w : value[3]) w += lowest + 1;
    std::vector<double> u{0.3, -0.2, 0.5, 0.1};
    std::vector<Var> in;
    for (auto& v : value) in.push_back(tape.leaf(Tensor::of(Shape{1, T, N}, v), false));
    const Var y = wkv6({in[0], in[1], in[2], in[3], tape.leaf(Tensor::of(Shape{1, N}, u), false), {}, 1, true});
    double S[N][N] = {};
    for (int64_t t = 0; t < T; ++t) {
      double k[N], decay[N];
      for (int64_t i = 0; i < N; ++i) {
        decay[i] = std::exp(-std::exp(value[3][t * N + i]));
        k[i] = value[1][t * N + i] * (1 - decay[i]);
      }
      for (int64_t j = 0; j < N; ++j) {
        double want = 0;
        const double v = value[2][t * N + j];
        for (int64_t i = 0; i < N; ++i) {
          want += value[0][t * N + i] * (S[i][j] + u[i] * k[i] * v);
          S[i][j] = decay[i] * S[i][j] + k[i] * v;
        }
        EXPECT_NEAR(y.value().data<double>()[t * N + j], want, 1e-13) << t << " " << j;  // of sums of 75 terms
      }
    }
  }
}

// In pieces of one step and more, with the state carried on: the whole. Heads whose rows are padded, too.
TEST(Wkv6, GoesOnFromAState) {
  constexpr int64_t T = 71, H = 2;
  for (const int64_t N : {16, 5}) {
    const int64_t C = H * N;
    Arena arena(kCpu);
    Tape tape(arena, Tape::Mode::evaluate);
    const Tensor r = hashed<double>("r", {T, C}, 1), k = hashed<double>("k", {T, C}, 1);
    const Tensor v = hashed<double>("v", {T, C}, 1), w = hashed<double>("w", {T, C}, 2);
    const Var u = tape.leaf(hashed<double>("u", {H, N}, 1), false);
    const auto run = [&](int64_t begin, int64_t end, const Tensor& state) {
      const auto part = [&](const Tensor& t) {
        return tape.leaf(t.slice(begin, end).view({1, end - begin, C}), false);
      };
      return wkv6({part(r), part(k), part(v), part(w), u, {}, H, true, state}).value();
    };
    const Tensor whole = run(0, T, {}), state = Tensor::zeros({1, H, N, N}, DType::f64, kCpu);
    int64_t begin = 0;
    for (const int64_t length : {1, 1, 33, 36}) {
      const Tensor y = run(begin, begin + length, state);
      for (int64_t i = 0; i < length * C; ++i)
        ASSERT_NEAR(y.data<double>()[i], whole.data<double>()[begin * C + i], 1e-14) << begin << " " << i;
      begin += length;
    }
  }
}

// What a GPU's kernels work in is asked for on the meta device that stands for one, whatever the build: in bf16 the
// state before each chunk of 64 steps.
TEST(Wkv6, AMetaGpuHasItsWorkingMemory) {
  const auto bytes = [](Device device, DType dtype) {
    Arena arena(device);
    Tape tape(arena, Tape::Mode::evaluate);
    const auto leaf = [&] { return tape.leaf(tape.empty({1, 128, 64}, dtype), false); };
    wkv6({.r = leaf(), .k = leaf(), .v = leaf(), .w = leaf(), .u = {}, .add = {}, .num_heads = 1});
    return arena.peak_bytes();
  };
  const size_t rows = 5 * 128 * 64;
  EXPECT_EQ(bytes(kMetaGpu, DType::bf16), 2 * (rows + 2 * 64 * 64));
  EXPECT_EQ(bytes(kMetaGpu, DType::f32), 4 * rows);
  EXPECT_EQ(bytes(kMeta, DType::f32), 4 * rows);
}

}  // namespace
}  // namespace gf
