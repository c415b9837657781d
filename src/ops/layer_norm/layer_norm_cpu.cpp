// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "ops/cpu/row_sums.h"
#include "ops/layer_norm/kernels.h"

namespace gf::cpu {
namespace {

template <class T>
void normalise_row(const LayerNormArgs<T>& p, int64_t row) {
  const T* x = p.x + row * p.C;
  T* const y = p.y + row * p.C;
  T total = 0;
  if (p.dx) {
    const T* const dx = p.dx + row * p.C;
    T* const sum = p.sum + row * p.C;
#pragma omp simd reduction(+ : total)
    for (int64_t c = 0; c < p.C; ++c) {
      sum[c] = x[c] + dx[c];
      total += sum[c];
    }
    x = sum;
  } else {
#pragma omp simd reduction(+ : total)
    for (int64_t c = 0; c < p.C; ++c) total += x[c];
  }
  const T mean = total / static_cast<T>(p.C);
  T squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < p.C; ++c) squares += (x[c] - mean) * (x[c] - mean);
  const T rstd = T(1) / std::sqrt(squares / static_cast<T>(p.C) + p.eps);
#pragma omp simd
  for (int64_t c = 0; c < p.C; ++c) y[c] = (x[c] - mean) * rstd * p.w[c] + p.b[c];
  p.mean[row] = mean;
  p.rstd[row] = rstd;
}

// With n = (x - mean) rstd and g = dy w:  dx = rstd (g - mean(g) - n mean(g n)).
template <class T>
void backward_row(const LayerNormBackwardArgs<T>& p, int64_t row, T* dw, T* db) {
  const T* const x = p.x + row * p.C;
  const T* const dy = p.dy + row * p.C;
  T* const dx = p.dx + row * p.C;
  const T mean = p.mean[row], rstd = p.rstd[row];
  T sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
  for (int64_t c = 0; c < p.C; ++c) {
    const T n = (x[c] - mean) * rstd, g = dy[c] * p.w[c];
    sum_g += g;
    sum_gn += g * n;
    dw[c] += dy[c] * n;
    db[c] += dy[c];
  }
  const T mean_g = sum_g / static_cast<T>(p.C), mean_gn = sum_gn / static_cast<T>(p.C);
  if (p.dsum) {
    const T* const dsum = p.dsum + row * p.C;
#pragma omp simd
    for (int64_t c = 0; c < p.C; ++c)
      dx[c] = dsum[c] + rstd * (dy[c] * p.w[c] - mean_g - (x[c] - mean) * rstd * mean_gn);
  } else {
#pragma omp simd
    for (int64_t c = 0; c < p.C; ++c) dx[c] = rstd * (dy[c] * p.w[c] - mean_g - (x[c] - mean) * rstd * mean_gn);
  }
}

}  // namespace

template <class T>
void layer_norm(const LayerNormArgs<T>& p) {
  parallel_ranges(p.M, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) normalise_row(p, row);
  });
}

template <class T>
void layer_norm_backward(const LayerNormBackwardArgs<T>& p) {
  const Blocks blocks = row_blocks(p.M);
  parallel_for(blocks.size(), [&](int64_t b) {
    T* const dw = p.partial + b * 2 * p.C;
    T* const db = dw + p.C;
    std::fill_n(dw, 2 * p.C, T(0));
    for (int64_t row = blocks.begin(b); row < blocks.end(b); ++row) backward_row(p, row, dw, db);
  });
  if (p.dw) add_partial_rows(p.partial, blocks.size(), 2 * p.C, p.C, p.dw);
  if (p.db) add_partial_rows(p.partial + p.C, blocks.size(), 2 * p.C, p.C, p.db);
}

template void layer_norm(const LayerNormArgs<float>&);
template void layer_norm(const LayerNormArgs<double>&);
template void layer_norm_backward(const LayerNormBackwardArgs<float>&);
template void layer_norm_backward(const LayerNormBackwardArgs<double>&);

}  // namespace gf::cpu
