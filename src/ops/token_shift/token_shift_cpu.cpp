// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "ops/cpu/row_sums.h"
#include "ops/token_shift/kernels.h"

namespace gf::cpu {
namespace {

// The factor of the previous position: m, or 1 - m.
template <class T>
T previous_share(T m, bool toward_current) {
  return toward_current ? T(1) - m : m;
}

}  // namespace

template <class T>
void token_shift(const TokenShiftArgs<T>& p) {
  const std::vector<T> zeros(p.C);
  parallel_ranges(p.B * p.Tn, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const x = p.x + row * p.C;
      const T* const first = p.before ? p.before + row / p.Tn * p.C : zeros.data();
      const T* const before = row % p.Tn ? x - p.C : first;
      for (int i = 0; i < p.count; ++i) {
        const T* const mix = p.mix[i];
        T* const out = p.out[i] + row * p.C;
#pragma omp simd
        for (int64_t c = 0; c < p.C; ++c) out[c] = x[c] + (before[c] - x[c]) * previous_share(mix[c], p.toward_current);
      }
    }
  });
}

// dx_t = sum_i dout_i,t (1 - s_i) + dout_i,t+1 s_i, with s the previous position's share.
template <class T>
void token_shift_backward(const TokenShiftBackwardArgs<T>& p) {
  const TokenShiftArgs<T>& f = p.forward;
  const int64_t C = f.C, rows = f.B * f.Tn;
  const Blocks blocks = row_blocks(rows);
  const std::vector<T> zeros(C);
  parallel_for(blocks.size(), [&](int64_t block) {
    T* const partial = p.partial + block * f.count * C;
    std::fill_n(partial, f.count * C, T(0));
    for (int64_t row = blocks.begin(block); row < blocks.end(block); ++row) {
      const T* const x = f.x + row * C;
      const T* const before = row % f.Tn ? x - C : zeros.data();
      const bool has_next = (row + 1) % f.Tn != 0;
      if (p.dx) std::fill_n(p.dx + row * C, C, T(0));
      for (int i = 0; i < f.count; ++i) {
        if (!p.dout[i]) continue;
        const T* const d = p.dout[i] + row * C;
        const T* const next = has_next ? d + C : zeros.data();
        const T* const mix = f.mix[i];
        T* const dmix = partial + i * C;
        const T sign = f.toward_current ? T(-1) : T(1);
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) dmix[c] += d[c] * (before[c] - x[c]) * sign;
        if (!p.dx) continue;
        T* const dx = p.dx + row * C;
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) {
          const T share = previous_share(mix[c], f.toward_current);
          dx[c] += d[c] * (T(1) - share) + next[c] * share;
        }
      }
    }
  });
  for (int i = 0; i < f.count; ++i)
    if (p.dmix[i]) add_partial_rows(p.partial + i * C, blocks.size(), f.count * C, C, p.dmix[i]);
}

template void token_shift(const TokenShiftArgs<float>&);
template void token_shift(const TokenShiftArgs<double>&);
template void token_shift_backward(const TokenShiftBackwardArgs<float>&);
template void token_shift_backward(const TokenShiftBackwardArgs<double>&);

}  // namespace gf::cpu
