// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "ops/cpu/gemm.h"
#include "ops/linear/kernels.h"

namespace gf::cpu {

template <class T>
void relu_squared(T* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T relu = y[i] < T(0) ? T(0) : y[i];  // a NaN stays
    y[i] = relu * relu;
  }
}

template <class T>
void linear_relu_squared(const LinearReluSquaredArgs<T>& p) {
  parallel_gemm<T>(false, true, p.M, p.N, p.K, p.x, p.K, p.w, p.K, T(0), p.y, p.N,
                   [&](int64_t row, int64_t row_end, int64_t col, int64_t col_end) {
                     for (; row < row_end; ++row) relu_squared(p.y + row * p.N + col, col_end - col);
                   });
}

// By blocks of rows: the product reads what was just written while it is in the cache.
template <class T>
void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<T>& p) {
  parallel_ranges(p.M, GemmTiles::of(p.M, p.K).rows, [&](int64_t begin, int64_t end) {
    const T* const y = p.y + begin * p.N;
    T* const dy = p.dy + begin * p.N;
#pragma omp simd
    for (int64_t i = 0; i < (end - begin) * p.N; ++i) dy[i] *= T(2) * std::sqrt(y[i]);
    if (p.dx) gemm<T>(false, false, end - begin, p.K, p.N, T(1), dy, p.N, p.w, p.K, T(0), p.dx + begin * p.K, p.K);
  });
}

template void relu_squared(float*, int64_t);
template void relu_squared(double*, int64_t);
template void linear_relu_squared(const LinearReluSquaredArgs<float>&);
template void linear_relu_squared(const LinearReluSquaredArgs<double>&);
template void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<float>&);
template void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<double>&);

}  // namespace gf::cpu
