// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/row_sums.h"
#include "ops/cpu/simd.h"
#include "ops/lora/kernels.h"

namespace gf::cpu {
namespace {
constexpr int64_t kRun = 1 << 13;
}

template <class T>
void tanh_in_place(T* z, int64_t n) {
  parallel_ranges(n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) z[i] = simd::tanh(z[i]);
  });
}

template <class T>
void tanh_backward(const T* z, T* dz, int64_t n) {
  parallel_ranges(n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) dz[i] *= T(1) - z[i] * z[i];
  });
}

template <class T>
void repeat_row(const T* row, int64_t M, int64_t C, T* out) {
  parallel_ranges(M, 16, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) std::copy_n(row, C, out + m * C);
  });
}

template <class T>
void add_rows(const T* x, int64_t M, int64_t C, T* partial, T* sum) {
  const Blocks blocks = row_blocks(M);
  parallel_for(blocks.size(), [&](int64_t b) {
    T* const mine = partial + b * C;
    std::fill_n(mine, C, T(0));
    for (int64_t m = blocks.begin(b); m < blocks.end(b); ++m)
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) mine[c] += x[m * C + c];
  });
  add_partial_rows(partial, blocks.size(), C, C, sum);
}

template void tanh_in_place(float*, int64_t);
template void tanh_in_place(double*, int64_t);
template void tanh_backward(const float*, float*, int64_t);
template void tanh_backward(const double*, double*, int64_t);
template void repeat_row(const float*, int64_t, int64_t, float*);
template void repeat_row(const double*, int64_t, int64_t, double*);
template void add_rows(const float*, int64_t, int64_t, float*, float*);
template void add_rows(const double*, int64_t, int64_t, double*, double*);

}  // namespace gf::cpu
