// SPDX-License-Identifier: Apache-2.0
// Works on blocks of rows: both small products and what lies between them follow each other while the block is in the
// cache.
#include <algorithm>

#include "ops/cpu/gemm.h"
#include "ops/cpu/row_sums.h"
#include "ops/cpu/simd.h"
#include "ops/lora/kernels.h"

namespace gf::cpu {
namespace {

template <class T>
void sum_rows(const T* from, int64_t rows, int64_t N, T* sum) {
  std::fill_n(sum, N, T(0));
  for (int64_t row = 0; row < rows; ++row) {
    const T* const d = from + row * N;
#pragma omp simd
    for (int64_t n = 0; n < N; ++n) sum[n] += d[n];
  }
}

}  // namespace

template <class T>
void lora(const LoraArgs<T>& p) {
  const Blocks blocks = lora_blocks(p.M);
  parallel_for(blocks.size(), [&](int64_t block) {
    const int64_t begin = blocks.begin(block), rows = blocks.end(block) - begin;
    T *const z = p.z + begin * p.R, *const y = p.y + begin * p.N;
    gemm<T>(false, false, rows, p.R, p.C, T(1), p.x + begin * p.C, p.C, p.a, p.R, T(0), z, p.R);
#pragma omp simd
    for (int64_t i = 0; i < rows * p.R; ++i) z[i] = simd::tanh(z[i]);
    if (p.base_is_row) {
      for (int64_t row = 0; row < rows; ++row) std::copy_n(p.base, p.N, y + row * p.N);
    } else {
      std::copy_n(p.base + begin * p.N, rows * p.N, y);
    }
    gemm<T>(false, false, rows, p.N, p.R, T(1), z, p.R, p.b, p.N, T(1), y, p.N);
  });
}

template <class T>
void lora_backward(const LoraBackwardArgs<T>& p) {
  const Blocks blocks = lora_blocks(p.M);
  parallel_for(blocks.size(), [&](int64_t block) {
    const int64_t begin = blocks.begin(block), rows = blocks.end(block) - begin;
    const T *const z = p.z + begin * p.R, *const dy = p.dy + begin * p.N;
    T* const dz = p.dz + begin * p.R;
    gemm<T>(false, true, rows, p.R, p.N, T(1), dy, p.N, p.b, p.N, T(0), dz, p.R);
#pragma omp simd
    for (int64_t i = 0; i < rows * p.R; ++i) dz[i] *= T(1) - z[i] * z[i];
    if (p.dbase) sum_rows(dy, rows, p.N, p.partial + block * p.N);
    if (!p.dx) return;
    T* const dx = p.dx + begin * p.C;
    if (p.dx_with_dy) std::copy_n(dy, rows * p.C, dx);
    gemm<T>(false, true, rows, p.C, p.R, T(1), dz, p.R, p.a, p.R, p.dx_with_dy ? T(1) : T(0), dx, p.C);
  });
  if (p.dbase) add_partial_rows(p.partial, blocks.size(), p.N, p.N, p.dbase);
}

template void lora(const LoraArgs<float>&);
template void lora(const LoraArgs<double>&);
template void lora_backward(const LoraBackwardArgs<float>&);
template void lora_backward(const LoraBackwardArgs<double>&);

}  // namespace gf::cpu
