// SPDX-License-Identifier: Apache-2.0
// All four passes of WKV6 (y forward; dr forward; dk, dv backward in time) are one scan over different operands:
//   out_t[b] += sum_a X[a][b] p_t[a];    X[a][b] = X[a][b] decay_t + q_t[a] z_t[b]
// with the lanes of a register along b, and the decay along a or along b.
//
// The decay leaves the inner loop but for one step in kGroup: X is kept without the decays since the last fold, where
// it was multiplied by those before. What is read at a step comes times the decays that are missing, what is added over
// them: fold_decays(). None of that depends on later steps.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/cpu/vector.h"

namespace gf::cpu {

inline constexpr int kTileRows = kVectorRegisters == 32 ? 8 : 4;
inline constexpr int64_t kGroup = 8;  // steps from one fold to the next, at most
// Decays that would make less than this together are folded sooner: what is added over them grows so much.
inline constexpr double kLeastUnfolded = 1e-12;

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
struct Folds {
  uint64_t steps = 0;  // bit i: X is folded in the i-th step of the scan's order, before that step's addition
  const T* decays;     // steps x N: of those steps, all that were missing
};

template <class T>
struct Scan {
  const T *p, *q, *z;  // steps x N each
  Folds<T> folds;
  T* out;           // steps x N
  bool adds;        // to what is there, or replaces it
  const T* before;  // the state that the first step finds, N x N
  T* after;         // where that after the last step goes; may be the same
};

// One tile: kTileRows rows from `row`, W registers of columns from `col`. The scan comes by value, so that the compiler
// need not read its pointers anew after each number that is written.
template <class T, int W, DecayAlong kAlong, Time kTime>
void scan_tile(const Scan<T> s, int64_t steps, int64_t N, int64_t row, int64_t col, const Ahead& ahead, size_t tile) {
  using V = Vector<T>;
  constexpr int64_t L = kLanes<T>;
  V x[kTileRows][W];
#pragma GCC unroll 8
  for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) x[a][i] = load(s.before + (row + a) * N + col + i * L);
  const bool adds = s.adds || row > 0;
  uintptr_t line = ahead.line(2 * tile), second_line = ahead.line(2 * tile + 1);
  for (int64_t step = 0; step < steps; ++step, line += ahead.stride, second_line += ahead.stride) {
    __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
    __builtin_prefetch(reinterpret_cast<const void*>(second_line), 0, 2);
    const int64_t t = (kTime == Time::forward ? step : steps - 1 - step) * N;
    V out[W], z[W];
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) {
      out[i] = adds ? load(s.out + t + col + i * L) : V{};
      z[i] = load(s.z + t + col + i * L);
    }
#pragma GCC unroll 8
    for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
      for (int i = 0; i < W; ++i) out[i] += x[a][i] * s.p[t + row + a];
    if (s.folds.steps >> step & 1) {
#pragma GCC unroll 8
      for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
        for (int i = 0; i < W; ++i)
          if constexpr (kAlong == DecayAlong::rows)
            x[a][i] *= s.folds.decays[t + row + a];
          else
            x[a][i] *= load(s.folds.decays + t + col + i * L);
    }
#pragma GCC unroll 8
    for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
      for (int i = 0; i < W; ++i) x[a][i] += s.q[t + row + a] * z[i];
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) store(s.out + t + col + i * L, out[i]);
  }
#pragma GCC unroll 8
  for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) store(s.after + (row + a) * N + col + i * L, x[a][i]);
}

template <DecayAlong kAlong, Time kTime, class T>
void scan(const Scan<T>& s, int64_t steps, int64_t N, const Ahead& ahead) {
  constexpr int64_t L = kLanes<T>;
  size_t tile = 0;
  for (int64_t col = 0; col < N;) {
    const int64_t registers = N - col >= 2 * L ? 2 : 1;
    const auto one = registers == 2 ? scan_tile<T, 2, kAlong, kTime> : scan_tile<T, 1, kAlong, kTime>;
    for (int64_t row = 0; row < N; row += kTileRows, ++tile) one(s, steps, N, row, col, ahead, tile);
    col += registers * L;
  }
}

template <class T>
bool any_below(const Vector<T>& x, T limit) {
  bool any = false;
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) any |= x[lane] < limit;
  return any;
}

// 1 / x for x from kLeastUnfolded to 1, within an ulp: a first guess by the exponent, and Newton's steps, which pass a
// division that is not pipelined.
inline Vector<float> reciprocal(const Vector<float>& x) {
  typedef int32_t Bits __attribute__((vector_size(kVectorBytes)));
  Bits bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = 0x7ef311c3 - bits;
  Vector<float> y;
  std::memcpy(&y, &bits, sizeof y);
  for (int i = 0; i < 3; ++i) y += y * (1.0f - x * y);
  return y;
}
inline Vector<double> reciprocal(const Vector<double>& x) {
  return 1.0 / x;
}

// The folds of a scan over 64 steps at most with these decays, steps x N, and what they have to make up for:
// scale(at, added, read) is called for each register of steps x N; what is added at its step is to come times `added`,
// what is read times `read`. `folded`: steps x N, for the result. The last step always folds, so that the state after
// it is whole.
template <Time kTime, class T, class Scale>
Folds<T> fold_decays(const T* decay, int64_t steps, int64_t N, T* folded, const Scale& scale) {
  constexpr int64_t L = kLanes<T>;
  constexpr T kLeast = T(kLeastUnfolded);
  const auto row = [&](int64_t step) { return (kTime == Time::forward ? step : steps - 1 - step) * N; };
  const Vector<T> one = Vector<T>{} + T(1);
  // Of one register, over the steps [first, end).
  const auto product = [&](int64_t first, int64_t end, int64_t i) {
    Vector<T> all = one;
    for (int64_t step = first; step < end; ++step) all *= load(decay + row(step) + i);
    return all;
  };
  const auto next_fold = [&](int64_t first) {
    int64_t fold = std::min(first / kGroup * kGroup + kGroup, steps) - 1;
    Vector<T> least = one;
    for (int64_t i = 0; i < N; i += L) {
      const Vector<T> all = product(first, fold, i);
      least = all < least ? all : least;
    }
    if (!any_below<T>(least, kLeast)) return fold;
    for (int64_t i = 0; i < N; i += L)
      for (int64_t step = first; step < fold; ++step)
        if (any_below<T>(product(first, step + 1, i), kLeast)) fold = step;
    return fold;
  };
  Folds<T> folds{0, folded};
  for (int64_t first = 0, fold = 0; first < steps; first = fold + 1) {
    fold = next_fold(first);
    folds.steps |= uint64_t{1} << fold;
    for (int64_t i = 0; i < N; i += L) {
      Vector<T> missing = one;
      for (int64_t step = first; step < fold; ++step) {
        const Vector<T> with = missing * load(decay + row(step) + i);
        scale(row(step) + i, reciprocal(with), missing);
        missing = with;
      }
      scale(row(fold) + i, one, missing);
      store(folded + row(fold) + i, missing * load(decay + row(fold) + i));
    }
  }
  return folds;
}

}  // namespace gf::cpu
