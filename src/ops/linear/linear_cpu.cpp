// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "ops/cpu/gemm.h"
#include "ops/linear/kernels.h"

namespace gf::cpu {

template <class T>
void linear_relu_squared(const LinearReluSquaredArgs<T>& p) {
  parallel_gemm<T>(false, true, p.M, p.N, p.K, p.x, p.K, p.w, p.K, T(0), p.y, p.N,
                   [&](int64_t row, int64_t row_end, int64_t col, int64_t col_end) {
                     for (; row < row_end; ++row) {
                       T* const y = p.y + row * p.N;
#pragma omp simd
                       for (int64_t j = col; j < col_end; ++j) {
                         const T relu = y[j] < T(0) ? T(0) : y[j];  // a NaN stays
                         y[j] = relu * relu;
                       }
                     }
                   });
}

template <class T>
void relu_squared_backward(const T* y, T* dy, int64_t n) {
  parallel_ranges(n, 1 << 15, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) dy[i] *= T(2) * std::sqrt(y[i]);
  });
}

template void linear_relu_squared(const LinearReluSquaredArgs<float>&);
template void linear_relu_squared(const LinearReluSquaredArgs<double>&);
template void relu_squared_backward(const float*, float*, int64_t);
template void relu_squared_backward(const double*, double*, int64_t);

}  // namespace gf::cpu
