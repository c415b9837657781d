// SPDX-License-Identifier: Apache-2.0
// Elementary functions that a compiler can vectorise inside `omp simd` loops: branch-free for float, the C
// library's for double (which only gradient checks use). Float errors were measured over their whole range:
// exp 1.1 ulp, expm1 2, tanh 3, sigmoid 2.2. exp gives zero below -127 ln 2; NaN stays NaN.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace gf::simd {

namespace detail {
// Between the least and the largest argument that exp() tells apart. As whole numbers, for which a vector unit has a
// minimum: the bits of floats of one sign are ordered as they are, and those of the other sign are below them as
// signed numbers, or as unsigned ones. Not for NaN.
inline float clamped(float x) {
  constexpr uint32_t kLow = std::bit_cast<uint32_t>(-88.02969f);  // -127 ln 2, where 2^n is zero
  constexpr int32_t kHigh = std::bit_cast<int32_t>(88.37626f);
  const auto below = std::min(std::bit_cast<int32_t>(x), kHigh);
  return std::bit_cast<float>(std::min(static_cast<uint32_t>(below), kLow));
}

// x = n ln 2 + r with |r| <= ln 2 / 2. Returns 2^n, or zero for n = -127; exp(r) - 1 in `em1`.
inline float reduce_exp(float x, float& em1) {
  constexpr float kRound = 12582912;  // 1.5 * 2^23: what is added to it is rounded, and stands in its last bits
  const float rounded = x * 1.44269504f + kRound, n = rounded - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  em1 = p * r * r + r;
  return std::bit_cast<float>((std::bit_cast<uint32_t>(rounded) << 23) + (127u << 23));
}
}  // namespace detail

inline float exp(float x) {
  float em1;
  const float scale = detail::reduce_exp(detail::clamped(x), em1), y = scale + scale * em1;
  return x == x ? y : x;
}

inline float expm1(float x) {
  float em1;
  const float scale = detail::reduce_exp(detail::clamped(x), em1), y = scale * em1 + (scale - 1.0f);
  return x == x ? y : x;
}

inline float tanh(float x) {
  const float a = expm1(-2.0f * std::fabs(x));
  return std::copysign(-a / (a + 2.0f), x);
}

inline float sigmoid(float x) {
  return 1.0f / (1.0f + simd::exp(-x));
}

inline double exp(double x) {
  return std::exp(x);
}
inline double expm1(double x) {
  return std::expm1(x);
}
inline double tanh(double x) {
  return std::tanh(x);
}
inline double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

}  // namespace gf::simd
