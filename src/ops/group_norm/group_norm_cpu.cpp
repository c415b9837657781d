// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "ops/cpu/row_sums.h"
#include "ops/cpu/simd.h"
#include "ops/group_norm/kernels.h"

namespace gf::cpu {
namespace {

template <class T>
void forward_group(const GroupNormArgs<T>& p, int64_t row, int64_t head) {
  const int64_t at = (row * p.H + head) * p.N, channel = head * p.N;
  const T *const y = p.y + at, *const g = p.g + at, *const w = p.w + channel, *const b = p.b + channel;
  T* const out = p.out + at;
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t n = 0; n < p.N; ++n) total += y[n] * p.pre_scale;
  const T mean = total / static_cast<T>(p.N);
  T squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t n = 0; n < p.N; ++n) squares += (y[n] * p.pre_scale - mean) * (y[n] * p.pre_scale - mean);
  const T rstd = T(1) / std::sqrt(squares / static_cast<T>(p.N) + p.eps);
#pragma omp simd
  for (int64_t n = 0; n < p.N; ++n)
    out[n] = ((y[n] * p.pre_scale - mean) * rstd * w[n] + b[n]) * (g[n] * simd::sigmoid(g[n]));
  p.mean[row * p.H + head] = mean;
  p.rstd[row * p.H + head] = rstd;
}

// With z = (y pre_scale - mean) rstd and h = dout silu(g) w:  dy = pre_scale rstd (h - mean(h) - z mean(h z)).
template <class T>
void backward_group(const GroupNormBackwardArgs<T>& p, int64_t row, int64_t head, T* dw, T* db) {
  const int64_t at = (row * p.H + head) * p.N, channel = head * p.N;
  const T *const y = p.y + at, *const g = p.g + at, *const w = p.w + channel, *const b = p.b + channel;
  const T* const dout = p.dout + at;
  T *const dy = p.dy + at, *const dg = p.dg + at;
  const T mean = p.mean[row * p.H + head], rstd = p.rstd[row * p.H + head];
  dw += channel, db += channel;
  T sum_h = 0, sum_hz = 0;
#pragma omp simd reduction(+ : sum_h, sum_hz)
  for (int64_t n = 0; n < p.N; ++n) {
    const T z = (y[n] * p.pre_scale - mean) * rstd;
    const T sigmoid = simd::sigmoid(g[n]), d = dout[n];
    const T dnorm = d * (g[n] * sigmoid), h = dnorm * w[n];
    dg[n] = d * (z * w[n] + b[n]) * (sigmoid * (T(1) + g[n] * (T(1) - sigmoid)));
    dw[n] += dnorm * z;
    db[n] += dnorm;
    dy[n] = h;
    sum_h += h;
    sum_hz += h * z;
  }
  const T mean_h = sum_h / static_cast<T>(p.N), mean_hz = sum_hz / static_cast<T>(p.N);
#pragma omp simd
  for (int64_t n = 0; n < p.N; ++n)
    dy[n] = p.pre_scale * rstd * (dy[n] - mean_h - (y[n] * p.pre_scale - mean) * rstd * mean_hz);
}

}  // namespace

template <class T>
void group_norm_silu_gate(const GroupNormArgs<T>& p) {
  parallel_ranges(p.M, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t head = 0; head < p.H; ++head) forward_group(p, row, head);
  });
}

template <class T>
void group_norm_silu_gate_backward(const GroupNormBackwardArgs<T>& p) {
  const Blocks blocks = row_blocks(p.M);
  const int64_t C = p.H * p.N;
  parallel_for(blocks.size(), [&](int64_t block) {
    T* const dw = p.partial + block * 2 * C;
    T* const db = dw + C;
    std::fill_n(dw, 2 * C, T(0));
    for (int64_t row = blocks.begin(block); row < blocks.end(block); ++row)
      for (int64_t head = 0; head < p.H; ++head) backward_group(p, row, head, dw, db);
  });
  if (p.dw) add_partial_rows(p.partial, blocks.size(), 2 * C, C, p.dw);
  if (p.db) add_partial_rows(p.partial + C, blocks.size(), 2 * C, C, p.db);
}

template void group_norm_silu_gate(const GroupNormArgs<float>&);
template void group_norm_silu_gate(const GroupNormArgs<double>&);
template void group_norm_silu_gate_backward(const GroupNormBackwardArgs<float>&);
template void group_norm_silu_gate_backward(const GroupNormBackwardArgs<double>&);

}  // namespace gf::cpu
