// SPDX-License-Identifier: Apache-2.0
// All four passes of WKV6 (y forward; dr forward; dk, dv backward in time) are one scan over different operands:
//   out_t[b] += sum_a X[a][b] p_t[a];    X[a][b] = X[a][b] decay_t + q_t[a] z_t[b]
// with the lanes of a register along b, and the decay along a or along b.
//
// In groups of steps the decay leaves the inner loop: X is kept as it will be when the decays that are left of its
// group are done, so that a group begins with X times all of its decays, and a step only adds. What is added must come
// times the decays after its step, and what is read with those up to its step taken back: group_decays().
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "ops/cpu/vector.h"

namespace gf::cpu {

inline constexpr int kTileRows = kVectorRegisters == 32 ? 8 : 4;
inline constexpr int64_t kGroup = 8;  // steps
// All decays of a group may make no less than this: what is taken back by them grows so much, and what fades by more
// would be lost to numbers too small for a float.
inline constexpr double kLeastOfGroup = 1e-12;

enum class DecayAlong : uint8_t { rows, lanes };
enum class Decay : uint8_t { each_step, each_group };
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
struct Decays {
  Decay of;
  const T* rows;  // steps x N, or groups x N
};

template <class T>
struct Scan {
  const T *p, *q, *z;  // steps x N each
  Decays<T> decays;
  T* out;           // steps x N
  bool adds;        // to what is there, or replaces it
  const T* before;  // the state that the first step finds, N x N
  T* after;         // where that after the last step goes; may be the same
};

// One tile: kTileRows rows from `row`, W registers of columns from `col`.
template <class T, int W, Decay kDecay, DecayAlong kAlong, Time kTime>
void scan_tile(const Scan<T>& s, int64_t steps, int64_t N, int64_t row, int64_t col, const Ahead& ahead, size_t tile) {
  using V = Vector<T>;
  constexpr int64_t L = kLanes<T>;
  V x[kTileRows][W];
  // With the decays of a row.
  const auto faded = [&](int64_t at, int a, int i) {
    if constexpr (kAlong == DecayAlong::rows)
      return x[a][i] * s.decays.rows[at + row + a];
    else
      return x[a][i] * load(s.decays.rows + at + col + i * L);
  };
#pragma GCC unroll 8
  for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) x[a][i] = load(s.before + (row + a) * N + col + i * L);
  const bool adds = s.adds || row > 0;
  uintptr_t line = ahead.line(2 * tile), second_line = ahead.line(2 * tile + 1);
  const int64_t groups = (steps + kGroup - 1) / kGroup;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t group = kTime == Time::forward ? g : groups - 1 - g;
    const int64_t begin = group * kGroup, end = std::min(begin + kGroup, steps);
    if constexpr (kDecay == Decay::each_group)
#pragma GCC unroll 8
      for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
        for (int i = 0; i < W; ++i) x[a][i] = faded(group * N, a, i);
    for (int64_t step = begin; step < end; ++step, line += ahead.stride, second_line += ahead.stride) {
      __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
      __builtin_prefetch(reinterpret_cast<const void*>(second_line), 0, 2);
      const int64_t t = (kTime == Time::forward ? step : end - 1 - (step - begin)) * N;
      V out[W], z[W];
#pragma GCC unroll 2
      for (int i = 0; i < W; ++i) {
        out[i] = adds ? load(s.out + t + col + i * L) : V{};
        z[i] = load(s.z + t + col + i * L);
      }
#pragma GCC unroll 8
      for (int a = 0; a < kTileRows; ++a) {
        const T p = s.p[t + row + a], q = s.q[t + row + a];
#pragma GCC unroll 2
        for (int i = 0; i < W; ++i) {
          out[i] += x[a][i] * p;
          x[a][i] = (kDecay == Decay::each_step ? faded(t, a, i) : x[a][i]) + q * z[i];
        }
      }
#pragma GCC unroll 2
      for (int i = 0; i < W; ++i) store(s.out + t + col + i * L, out[i]);
    }
  }
#pragma GCC unroll 8
  for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) store(s.after + (row + a) * N + col + i * L, x[a][i]);
}

template <Decay kDecay, DecayAlong kAlong, Time kTime, class T>
void scan_tiles(const Scan<T>& s, int64_t steps, int64_t N, const Ahead& ahead) {
  constexpr int64_t L = kLanes<T>;
  size_t tile = 0;
  for (int64_t col = 0; col < N;) {
    const int64_t registers = N - col >= 2 * L ? 2 : 1;
    const auto one = registers == 2 ? scan_tile<T, 2, kDecay, kAlong, kTime> : scan_tile<T, 1, kDecay, kAlong, kTime>;
    for (int64_t row = 0; row < N; row += kTileRows, ++tile) one(s, steps, N, row, col, ahead, tile);
    col += registers * L;
  }
}

template <DecayAlong kAlong, Time kTime, class T>
void scan(const Scan<T>& s, int64_t steps, int64_t N, const Ahead& ahead) {
  if (s.decays.of == Decay::each_group)
    scan_tiles<Decay::each_group, kAlong, kTime>(s, steps, N, ahead);
  else
    scan_tiles<Decay::each_step, kAlong, kTime>(s, steps, N, ahead);
}

// Of one group and one register of channels: scale(at, added, read) for each step, where `at` is its place in rows of
// N.
template <Time kTime, class T, class Count, class Scale>
void scale_group(const T* decay, int64_t first, Count count, int64_t N, const Vector<T>& whole, const Scale& scale) {
  const auto at = [&](int64_t step) {  // in the scan's order
    return first + (kTime == Time::forward ? step : count - 1 - step) * N;
  };
  const Vector<T> one = Vector<T>{} + T(1), back = one / whole;
  Vector<T> after[kGroup], read = back;
  after[count - 1] = one;
#pragma GCC unroll 8
  for (int64_t step = count - 1; step > 0; --step) after[step - 1] = after[step] * load(decay + at(step));
  for (int64_t step = 0; step < count; ++step) {
    const Vector<T> own = load(decay + at(step));
    scale(at(step), after[step], read);
    read *= own;
  }
}

// The decays to scan with, of some steps: those of groups, made in `whole`, of groups x N. scale(at, added, read) is
// called for each register of steps x N: what is added to the state there is to come times `added`, what is read times
// `read`. Where a group fades by more than can be taken back, each step's own decays, and both are one.
template <Time kTime, class T, class Scale>
Decays<T> group_decays(const T* decay, int64_t steps, int64_t N, T* whole, const Scale& scale) {
  constexpr int64_t L = kLanes<T>;
  const Vector<T> one = Vector<T>{} + T(1);
  Vector<T> least = one;
  for (int64_t begin = 0; begin < steps; begin += kGroup)
    for (int64_t i = 0; i < N; i += L) {
      Vector<T> all = one;
      for (int64_t step = begin; step < std::min(begin + kGroup, steps); ++step) all *= load(decay + step * N + i);
      store(whole + begin / kGroup * N + i, all);
      least = all < least ? all : least;
    }
  bool fits = true;
  for (int64_t lane = 0; lane < L; ++lane) fits = fits && least[lane] >= T(kLeastOfGroup);
  if (!fits) {
    for (int64_t at = 0; at < steps * N; at += L) scale(at, one, one);
    return {Decay::each_step, decay};
  }
  for (int64_t begin = 0; begin < steps; begin += kGroup)
    for (int64_t i = 0; i < N; i += L) {
      const Vector<T> all = load(whole + begin / kGroup * N + i);
      if (steps - begin >= kGroup)
        scale_group<kTime>(decay, begin * N + i, std::integral_constant<int64_t, kGroup>(), N, all, scale);
      else
        scale_group<kTime>(decay, begin * N + i, steps - begin, N, all, scale);
    }
  return {Decay::each_group, whole};
}

}  // namespace gf::cpu
