// SPDX-License-Identifier: Apache-2.0
#include "ops/group_norm/group_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/op_check.h"

namespace gf {
namespace {

OpCase norm_case(Shape y, int64_t groups, double eps, double pre_scale) {
  const int64_t C = y[-1];
  return {"group_norm", {{y}, {y, -3, 3}, {{C}, 0.5, 1.5}, {{C}}}, [=](Tape&, const std::vector<Var>& in) {
            return std::vector{group_norm_silu_gate(in[0], in[1], groups, in[2], in[3], eps, pre_scale)};
          }};
}

TEST(GroupNorm, Gradients) {
  check_gradients(norm_case({2, 3, 12}, 3, 1e-5 * 64, 1));   // Finch
  check_gradients(norm_case({2, 3, 12}, 3, 1e-5, 1.0 / 8));  // Eagle
}
TEST(GroupNorm, LargeAndOdd) {
  check_float_and_bits(norm_case({1, 1, 8}, 1, 1e-5 * 64, 1));
  check_float_and_bits(norm_case({3, 333, 5 * 23}, 5, 1e-5 * 64, 1));
  check_float_and_bits(norm_case({2, 65, 128}, 2, 1e-5, 1.0 / 8));
  check_float_and_bits(norm_case({3, 11, 17 * 64}, 17, 1e-5, 1.0 / 8));
  check_float_and_bits(norm_case({2, 9, 320}, 2, 1e-5, 1));  // heads that are no power of two
}

TEST(GroupNorm, IsItsFormula) {
  constexpr int64_t C = 6, H = 2, N = 3;
  const std::vector<double> y{1, 2, 4, -3, 0, 5}, g{0.5, -1, 2, 3, -2, 1}, w{1, 2, 3, 4, 5, 6}, b{6, 5, 4, 3, 2, 1};
  constexpr double eps = 0.25, pre_scale = 0.5;
  Arena arena(kCpu);
  Tape tape(arena);
  const auto leaf = [&](Shape shape, const std::vector<double>& values) {
    return tape.leaf(Tensor::of(shape, values), false);
  };
  const Var out =
      group_norm_silu_gate(leaf({1, 1, C}, y), leaf({1, 1, C}, g), H, leaf({C}, w), leaf({C}, b), eps, pre_scale);
  for (int64_t c = 0; c < C; ++c) {
    const int64_t first = c / N * N;
    double mean = 0, variance = 0;
    for (int64_t n = 0; n < N; ++n) mean += y[first + n] * pre_scale / N;
    for (int64_t n = 0; n < N; ++n) variance += std::pow(y[first + n] * pre_scale - mean, 2) / N;
    const double norm = (y[c] * pre_scale - mean) / std::sqrt(variance + eps) * w[c] + b[c];
    EXPECT_NEAR(out.value().data<double>()[c], norm * g[c] / (1 + std::exp(-g[c])), 1e-13) << c;
  }
}

TEST(GroupNorm, SaysWhatDoesNotDivide) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var y = tape.leaf(Tensor::zeros({1, 1, 6}, DType::f32, kCpu), false);
  const Var w = tape.leaf(Tensor::zeros({6}, DType::f32, kCpu), false);
  try {
    group_norm_silu_gate(y, y, 4, w, w, 1e-5);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("6 channels in 4 groups"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace gf
