// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "base/parallel_for.h"
#include "ops/rms_norm/kernels.h"

namespace gf::cpu {

template <class T>
void rms_norm(const RmsNormArgs<T>& p) {
  parallel_ranges(p.M, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const x = p.x + row * p.C;
      T* const y = p.y + row * p.C;
      T squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t c = 0; c < p.C; ++c) squares += x[c] * x[c];
      const T root = std::sqrt(squares / static_cast<T>(p.C));
      const T factor = T(1) / (root + p.eps);
#pragma omp simd
      for (int64_t c = 0; c < p.C; ++c) y[c] = x[c] * factor;
      p.root[row] = root;
    }
  });
}

// With d = root + eps and d(root)/dx = x / (C root):  dx = dy / d - x <dy, x> / (d^2 C root).
template <class T>
void rms_norm_backward(const RmsNormBackwardArgs<T>& p) {
  parallel_ranges(p.M, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const x = p.x + row * p.C;
      const T* const dy = p.dy + row * p.C;
      T* const dx = p.dx + row * p.C;
      T dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t c = 0; c < p.C; ++c) dot += dy[c] * x[c];
      const T root = p.root[row], factor = T(1) / (root + p.eps);
      // In this order of factors nothing overflows on rows that are nearly zero.
      const T along = root == T(0) ? T(0) : dot * factor / root / static_cast<T>(p.C) * factor;
#pragma omp simd
      for (int64_t c = 0; c < p.C; ++c) dx[c] = dy[c] * factor - x[c] * along;
    }
  });
}

template void rms_norm(const RmsNormArgs<float>&);
template void rms_norm(const RmsNormArgs<double>&);
template void rms_norm_backward(const RmsNormBackwardArgs<float>&);
template void rms_norm_backward(const RmsNormBackwardArgs<double>&);

}  // namespace gf::cpu
