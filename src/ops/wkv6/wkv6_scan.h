// SPDX-License-Identifier: Apache-2.0
// All four passes of WKV6 (y forward; dr forward; dk, dv backward in time) are one scan over different operands:
//   out_t[b] += sum_a X[a][b] p_t[a];    X[a][b] = X[a][b] decay_t + q_t[a] z_t[b]
// with the lanes of a register along b, and the decay along a or along b.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/cpu/vector.h"

namespace gf::cpu {

inline constexpr int kTileRows = kVectorRegisters == 32 ? 8 : 4;

enum class DecayAlong : uint8_t { rows, lanes };
enum class Time : uint8_t { forward, backward };

// The cache lines of a first row, and those `stride` bytes on for each row after it, that a scan asks of the memory
// while it works on others: two lines a step, so that no request has to wait for one before it. Heads are short pieces
// of long rows, which no hardware prefetcher follows.
struct Ahead {
  int64_t stride = 0;
  std::vector<uintptr_t> lines{};
  uintptr_t line(size_t i) const { return lines.empty() ? 0 : lines[i % lines.size()]; }
};

template <class T>
struct Scan {
  const T *p, *q, *z, *decay;  // steps x N each
  T* out;                      // steps x N, added to
  const T* before;             // the state that the first step finds, N x N
  T* after;                    // where that after the last step goes; may be the same
};

// One tile: kTileRows rows from `row`, W registers of columns from `col`.
template <class T, int W, DecayAlong kDecay, Time kTime>
void scan_tile(const Scan<T>& s, int64_t steps, int64_t N, int64_t row, int64_t col, const Ahead& ahead, size_t tile) {
  using V = Vector<T>;
  constexpr int64_t L = kLanes<T>;
  V x[kTileRows][W];
#pragma GCC unroll 8
  for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) x[a][i] = load(s.before + (row + a) * N + col + i * L);
  uintptr_t line = ahead.line(2 * tile), second_line = ahead.line(2 * tile + 1);
  for (int64_t step = 0; step < steps; ++step, line += ahead.stride, second_line += ahead.stride) {
    __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
    __builtin_prefetch(reinterpret_cast<const void*>(second_line), 0, 2);
    const int64_t t = (kTime == Time::forward ? step : steps - 1 - step) * N;
    V out[W], z[W], decay_lanes[W];
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) {
      out[i] = load(s.out + t + col + i * L);
      z[i] = load(s.z + t + col + i * L);
      if constexpr (kDecay == DecayAlong::lanes) decay_lanes[i] = load(s.decay + t + col + i * L);
    }
#pragma GCC unroll 8
    for (int a = 0; a < kTileRows; ++a) {
      const T p = s.p[t + row + a], q = s.q[t + row + a];
#pragma GCC unroll 2
      for (int i = 0; i < W; ++i) {
        out[i] += x[a][i] * p;
        if constexpr (kDecay == DecayAlong::rows)
          x[a][i] = x[a][i] * s.decay[t + row + a] + q * z[i];
        else
          x[a][i] = x[a][i] * decay_lanes[i] + q * z[i];
      }
    }
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) store(s.out + t + col + i * L, out[i]);
  }
#pragma GCC unroll 8
  for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) store(s.after + (row + a) * N + col + i * L, x[a][i]);
}

template <class T, DecayAlong kDecay, Time kTime>
void scan(const Scan<T>& s, int64_t steps, int64_t N, const Ahead& ahead) {
  constexpr int64_t L = kLanes<T>;
  size_t tile = 0;
  for (int64_t col = 0; col < N;) {
    const bool two = N - col >= 2 * L;
    for (int64_t row = 0; row < N; row += kTileRows, ++tile)
      (two ? scan_tile<T, 2, kDecay, kTime> : scan_tile<T, 1, kDecay, kTime>)(s, steps, N, row, col, ahead, tile);
    col += two ? 2 * L : L;
  }
}

}  // namespace gf::cpu
