// SPDX-License-Identifier: Apache-2.0
#include "base/parallel_for.h"
#include "ops/rotary/kernels.h"

namespace gf::cpu {
namespace {

// One head. `sign` 1: by the angles, -1: back.
template <class Real>
void turn(const Real* x, const Real* angles, Real sign, int64_t pairs, Real* y) {
#pragma omp simd
  for (int64_t i = 0; i < pairs; ++i) {
    const Real cosine = angles[2 * i], sine = sign * angles[2 * i + 1];
    const Real x0 = x[2 * i], x1 = x[2 * i + 1];
    y[2 * i] = x0 * cosine - x1 * sine;
    y[2 * i + 1] = x0 * sine + x1 * cosine;
  }
}

}  // namespace

template <class Real>
void rotary(const RotaryArgs<Real>& p) {
  const Real sign = p.back ? Real(-1) : Real(1);
  parallel_ranges(p.B * p.T, 32, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const Real* const angles = p.angles + row % p.T * p.N;
      for (int64_t at = row * p.H * p.N; at < (row + 1) * p.H * p.N; at += p.N)
        turn(p.x + at, angles, sign, p.N / 2, p.y + at);
    }
  });
}

template void rotary(const RotaryArgs<float>&);
template void rotary(const RotaryArgs<double>&);

}  // namespace gf::cpu
