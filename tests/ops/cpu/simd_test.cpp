// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/simd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace gf {
namespace {

// Every 997th float from `low` to `high`, both signs and all exponents among them.
std::vector<float> floats_between(float low, float high) {
  std::vector<float> all;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 997) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (x >= low && x <= high) all.push_back(x);
  }
  return all;
}

// As kernels call it: in a loop that the compiler vectorises.
template <class Function>
std::vector<float> map(const std::vector<float>& in, Function&& f) {
  std::vector<float> out(in.size());
#pragma omp simd
  for (size_t i = 0; i < in.size(); ++i) out[i] = f(in[i]);
  return out;
}

// In units of the last place of the exact value; of the least normal number below that.
double worst_error(const std::vector<float>& in, const std::vector<float>& out, double (*exact)(double)) {
  double worst = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    const double want = exact(static_cast<double>(in[i]));
    const double size = std::max(std::fabs(want), static_cast<double>(std::numeric_limits<float>::min()));
    const double unit = std::ldexp(1.0, std::ilogb(size) - 23);
    worst = std::max(worst, std::fabs(static_cast<double>(out[i]) - want) / unit);
  }
  return worst;
}

double sigmoid_of(double x) {
  return 1 / (1 + std::exp(-x));
}

TEST(Simd, ErrorsAreAsTheHeaderSays) {
  const auto exp_range = floats_between(-87.3f, 88.3f);
  EXPECT_GT(exp_range.size(), 1'000'000u);
  EXPECT_LE(worst_error(exp_range, map(exp_range, [](float x) { return simd::exp(x); }), std::exp), 1.1);
  EXPECT_LE(worst_error(exp_range, map(exp_range, [](float x) { return simd::expm1(x); }), std::expm1), 2.0);
  EXPECT_LE(worst_error(exp_range, map(exp_range, [](float x) { return simd::tanh(x); }), std::tanh), 3.0);
  EXPECT_LE(worst_error(exp_range, map(exp_range, [](float x) { return simd::sigmoid(x); }), sigmoid_of), 2.2);
}

TEST(Simd, BeyondTheRangeOfFloats) {
  const float inf = std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::max();
  const std::vector<float> low{-88.1f, -100, -1e4f, -1e30f, -most, -inf}, high{88.5f, 1e4f, 1e30f, most, inf};
  for (const float y : map(low, [](float x) { return simd::exp(x); })) EXPECT_EQ(y, 0);
  for (const float y : map(low, [](float x) { return simd::expm1(x); })) EXPECT_EQ(y, -1);
  for (const float y : map(low, [](float x) { return simd::sigmoid(x); })) EXPECT_LT(y, 1e-38f);
  for (const float y : map(low, [](float x) { return simd::tanh(x); })) EXPECT_EQ(y, -1);
  for (const float y : map(high, [](float x) { return simd::exp(x); })) EXPECT_GT(y, 2e38f);
  for (const float y : map(high, [](float x) { return simd::sigmoid(x); })) EXPECT_EQ(y, 1);
  for (const float y : map(high, [](float x) { return simd::tanh(x); })) EXPECT_EQ(y, 1);
}

TEST(Simd, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> in{nan, -nan};
  for (const float y : map(in, [](float x) { return simd::exp(x); })) EXPECT_TRUE(std::isnan(y));
  for (const float y : map(in, [](float x) { return simd::expm1(x); })) EXPECT_TRUE(std::isnan(y));
  for (const float y : map(in, [](float x) { return simd::tanh(x); })) EXPECT_TRUE(std::isnan(y));
  for (const float y : map(in, [](float x) { return simd::sigmoid(x); })) EXPECT_TRUE(std::isnan(y));
}

}  // namespace
}  // namespace gf
