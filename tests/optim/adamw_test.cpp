// SPDX-License-Identifier: Apache-2.0
#include "optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"
#include "support/bits.h"
#include "support/threads.h"

namespace gf {
namespace {

constexpr int64_t kN = 3 * (1 << 14) + 77;  // several of the runs that are shared out, and odd

struct State {
  Tensor p, g, m, v;
};

State fresh(int64_t n) {
  State s{Tensor::empty({n}, DType::f32, kCpu), Tensor::zeros({n}, DType::f32, kCpu),
          Tensor::zeros({n}, DType::f32, kCpu), Tensor::zeros({n}, DType::f32, kCpu)};
  const Random random(1, "p");
  for (int64_t i = 0; i < n; ++i) s.p.data<float>()[i] = static_cast<float>(random.uniform(static_cast<uint64_t>(i)));
  return s;
}

// Gradients of many sizes, 1e-6 to 1.
float gradient(int step, int64_t i) {
  const Random random(static_cast<uint64_t>(step), "g");
  const auto k = static_cast<uint64_t>(i);
  return static_cast<float>(random.uniform(k) * std::pow(10.0, -3 + 3 * random.uniform(k + kN)));
}

AdamWArgs args_of(const State& s, int step) {
  return {.n = s.p.numel(),
          .p = s.p.data<float>(),
          .g = s.g.data<float>(),
          .m = s.m.data<float>(),
          .v = s.v.data<float>(),
          .rounded = nullptr,
          .grad_scale = 0.37,
          .lr = 1e-3,
          .beta1 = 0.9,
          .beta2 = 0.99,
          .bias1 = 1 - std::pow(0.9, step),
          .bias2 = 1 - std::pow(0.99, step),
          .eps = 1e-8,
          .decay = 0.1};
}

TEST(AdamW, AgreesWithDoubles) {
  const State s = fresh(kN);
  std::vector<double> p(s.p.data<float>(), s.p.data<float>() + kN), m(kN), v(kN);
  constexpr int kSteps = 20;
  for (int step = 1; step <= kSteps; ++step) {
    for (int64_t i = 0; i < kN; ++i) {
      s.g.data<float>()[i] = gradient(step, i);
      const double g = 0.37 * gradient(step, i);
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.99 * v[i] + 0.01 * g * g;
      const double unbiased_m = m[i] / (1 - std::pow(0.9, step)), unbiased_v = v[i] / (1 - std::pow(0.99, step));
      p[i] -= 1e-3 * (unbiased_m / (std::sqrt(unbiased_v) + 1e-8) + 0.1 * p[i]);
    }
    cpu::adamw(args_of(s, step));
  }
  for (int64_t i = 0; i < kN; ++i) {
    // Each step rounds p (below 1) by 6e-8, and its step (up to 3e-3) by some 1e-6 of itself.
    ASSERT_NEAR(s.p.data<float>()[i], p[i], kSteps * 7e-8) << i;
    ASSERT_NEAR(s.m.data<float>()[i], m[i], 2e-6 * 0.37) << i;
    ASSERT_NEAR(s.v.data<float>()[i], v[i], kSteps * 3e-7 * v[i] + 1e-30) << i;
    ASSERT_EQ(s.g.data<float>()[i], 0.0F) << "ready for the next step";
  }
}

TEST(AdamW, TheFirstStepIsTheLearningRate) {
  const State s = fresh(4);
  const Tensor before = clone(s.p);
  for (int i = 0; i < 4; ++i) s.g.data<float>()[i] = i % 2 ? -3e-3F : 2e2F;
  AdamWArgs args = args_of(s, 1);
  args.decay = 0;
  cpu::adamw(args);
  for (int i = 0; i < 4; ++i)  // whatever the gradient's size; 1e-5 of it for eps against 1e-3, 6e-8 for rounding p
    EXPECT_NEAR(before.data<float>()[i] - s.p.data<float>()[i], i % 2 ? -1e-3 : 1e-3, 2e-8 + 6e-8);
}

TEST(AdamW, WithoutGradientOnlyTheDecayActs) {
  const State s = fresh(1000);
  const Tensor before = clone(s.p);
  cpu::adamw(args_of(s, 1));
  for (int i = 0; i < 1000; ++i) {
    const double want = before.data<float>()[i] * (1 - 1e-3 * 0.1);
    ASSERT_NEAR(s.p.data<float>()[i], want, 2 * 6e-8 * std::fabs(want)) << i << ": two roundings";
  }
  EXPECT_EQ(sum_of_squares(s.m), 0);
}

TEST(AdamW, SameBitsOnOneAndManyCores) {
  const auto run = [](int n) {
    const Threads threads(n);
    const State s = fresh(kN);
    for (int step = 1; step <= 3; ++step) {
      for (int64_t i = 0; i < kN; ++i) s.g.data<float>()[i] = gradient(step, i);
      cpu::adamw(args_of(s, step));
    }
    return s;
  };
  const State one = run(1), two = run(2);
  EXPECT_TRUE(same_bits(one.p, two.p));
  EXPECT_TRUE(same_bits(one.m, two.m));
  EXPECT_TRUE(same_bits(one.v, two.v));
}

// A shard, or a parameter, may begin anywhere: how a range is cut changes no bits.
TEST(AdamW, APieceAtATimeIsTheWhole) {
  const State whole = fresh(1000), pieces = fresh(1000);
  for (const State* s : {&whole, &pieces})
    for (int64_t i = 0; i < 1000; ++i) s->g.data<float>()[i] = gradient(1, i);
  cpu::adamw(args_of(whole, 1));
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>(0, 1), {1, 18}, {18, 500}, {500, 1000}})
    cpu::adamw(args_of({pieces.p.range(begin, end), pieces.g.range(begin, end), pieces.m.range(begin, end),
                        pieces.v.range(begin, end)},
                       1));
  EXPECT_TRUE(same_bits(pieces.p, whole.p));
  EXPECT_TRUE(same_bits(pieces.v, whole.v));
}

}  // namespace
}  // namespace gf
