// SPDX-License-Identifier: Apache-2.0
// The sequential form: on a CPU a tile of the state that stays in registers for a whole chunk of steps beats the
// chunked matrix form, and nothing in it can overflow. All four passes (y forward; dr forward; dk, dv backward
// in time) are one scan over different operands:
//   out_t[b] += sum_a X[a][b] p_t[a];    X[a][b] = X[a][b] decay_t + q_t[a] z_t[b]
// with the lanes of a register along b, and the decay along a or along b.
#include <algorithm>
#include <vector>

#include "base/parallel_for.h"
#include "ops/cpu/simd.h"
#include "ops/cpu/vector.h"
#include "ops/wkv6/kernels.h"

namespace gf::cpu {
namespace {

constexpr int64_t kChunk = 64;  // steps a tile stays in registers
constexpr int64_t kAnchor = 32;  // the same in the backward pass: also the distance of the decay gradient's anchors
constexpr double kForgotten = 1e-7;
constexpr int kTileRows = kVectorRegisters == 32 ? 8 : 4;

enum class DecayAlong : uint8_t { rows, lanes };
enum class Time : uint8_t { forward, backward };

template <class T> struct Scan {
  const T *p, *q, *z, *decay;  // steps x N each
  T* out;                      // steps x N, added to
  T* state;                    // N x N
};

// One tile: kTileRows rows from `row`, W registers of columns from `col`.
template <class T, int W, DecayAlong kDecay, Time kTime>
void scan_tile(const Scan<T>& s, int64_t steps, int64_t N, int64_t row, int64_t col) {
  using V = Vector<T>;
  constexpr int64_t L = kLanes<T>;
  V x[kTileRows][W];
#pragma GCC unroll 8
  for (int a = 0; a < kTileRows; ++a)
#pragma GCC unroll 2
    for (int i = 0; i < W; ++i) x[a][i] = load(s.state + (row + a) * N + col + i * L);
  for (int64_t step = 0; step < steps; ++step) {
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
    for (int i = 0; i < W; ++i) store(s.state + (row + a) * N + col + i * L, x[a][i]);
}

template <class T, DecayAlong kDecay, Time kTime> void scan(const Scan<T>& s, int64_t steps, int64_t N) {
  constexpr int64_t L = kLanes<T>;
  for (int64_t col = 0; col < N;) {
    if (N - col >= 2 * L) {
      for (int64_t row = 0; row < N; row += kTileRows) scan_tile<T, 2, kDecay, kTime>(s, steps, N, row, col);
      col += 2 * L;
    } else {
      for (int64_t row = 0; row < N; row += kTileRows) scan_tile<T, 1, kDecay, kTime>(s, steps, N, row, col);
      col += L;
    }
  }
}

// A thread's working memory, kept from call to call. Rows are padded with zeros to whole registers.
template <class T> class Scratch {
 public:
  explicit Scratch(int64_t N) : N_((N + kLanes<T> - 1) / kLanes<T> * kLanes<T>) {
    for (auto& rows : rows_) rows.assign(kChunk * N_, T(0));
  }
  int64_t N() const { return N_; }
  T* rows(int which) { return rows_[which].data(); }

 private:
  int64_t N_;
  std::vector<T> rows_[9];
};

enum Rows : int { kR, kK, kV, kDecayRows, kKeyScale, kOut, kDy, kDk, kDv };

// One head of one sequence: where its rows lie in the tensors.
struct Head {
  int64_t N, stride, base, index;  // row t begins at base + t * stride
  int64_t at(int64_t t) const { return base + t * stride; }
};

template <class T> Head head_of(const Wkv6Args<T>& p, int64_t task) {
  const int64_t b = task / p.H, h = task % p.H;
  return {p.N, p.H * p.N, b * p.Tn * p.H * p.N + h * p.N, h};
}

template <class T> void load_rows(const Head& head, const T* from, int64_t begin, int64_t end, T* to, int64_t N) {
  for (int64_t t = begin; t < end; ++t) std::copy_n(from + head.at(t), head.N, to + (t - begin) * N);
}

template <class T> void store_rows(const Head& head, const T* from, int64_t begin, int64_t end, T* to, int64_t N) {
  for (int64_t t = begin; t < end; ++t) std::copy_n(from + (t - begin) * N, head.N, to + head.at(t));
}

// r, k', v and the decays of steps [begin, end). kKeyScale: 1 - decay, by expm1, where keys are scaled.
template <class T> void load_chunk(const Wkv6Args<T>& p, const Head& head, int64_t begin, int64_t end, Scratch<T>& m) {
  const int64_t N = m.N();
  load_rows(head, p.r, begin, end, m.rows(kR), N);
  load_rows(head, p.v, begin, end, m.rows(kV), N);
  for (int64_t t = begin; t < end; ++t) {
    const T* const w = p.w + head.at(t);
    const T* const k = p.k + head.at(t);
    T* const decay = m.rows(kDecayRows) + (t - begin) * N;
    T* const key = m.rows(kK) + (t - begin) * N;
    T* const key_scale = m.rows(kKeyScale) + (t - begin) * N;
#pragma omp simd
    for (int64_t i = 0; i < head.N; ++i) {
      const T log_decay = -simd::exp(w[i]);
      decay[i] = simd::exp(log_decay);
      key_scale[i] = p.scale_keys ? -simd::expm1(log_decay) : T(1);
      key[i] = k[i] * key_scale[i];
    }
  }
}

template <class T> T bonus(const T* r, const T* u, const T* k, int64_t N) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < N; ++i) sum += r[i] * u[i] * k[i];
  return sum;
}

template <class T> void forward_head(const Wkv6Args<T>& p, const Head& head) {
  Scratch<T> m(head.N);
  const int64_t N = m.N();
  std::vector<T> state(N * N);
  T* const y = m.rows(kOut);
  for (int64_t begin = 0; begin < p.Tn; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, p.Tn);
    load_chunk(p, head, begin, end, m);
    if (p.add)
      load_rows(head, p.add, begin, end, y, N);
    else
      std::fill_n(y, (end - begin) * N, T(0));
    if (p.u)
      for (int64_t t = 0; t < end - begin; ++t) {
        const T b = bonus(m.rows(kR) + t * N, p.u + head.index * head.N, m.rows(kK) + t * N, head.N);
        const T* const v = m.rows(kV) + t * N;
#pragma omp simd
        for (int64_t j = 0; j < head.N; ++j) y[t * N + j] += b * v[j];
      }
    scan<T, DecayAlong::rows, Time::forward>(
        {m.rows(kR), m.rows(kK), m.rows(kV), m.rows(kDecayRows), y, state.data()}, end - begin, N);
    store_rows(head, y, begin, end, p.y, N);
  }
}

// What the gradients of one chunk carry from the later to the earlier one: D = dL/dS in both layouts.
template <class T> struct Carried {
  explicit Carried(int64_t N) : D(N * N), Dt(N * N), du(N) {}
  std::vector<T> D, Dt, du;
};

// q_t = sum_j S_t[i][j] D_t[i][j]. It obeys dlw_t = q_t - k'_t dk'_t and q_{t-1} = dlw_t + r_t dr'_t (log decay lw),
// so one sum a chunk anchors it, and rounding cannot pile up over more than kAnchor steps. Where a decay is under
// kForgotten, |dlw| <= decay |q_{t-1}| is less than q's own rounding, which lw = -exp(w) would blow up: it is zero
// there, and the sum starts afresh.
template <class T> void anchor(const T* St, const T* Dt, int64_t N, T* q) {
  std::fill_n(q, N, T(0));
  for (int64_t j = 0; j < N; ++j)
#pragma omp simd
    for (int64_t i = 0; i < N; ++i) q[i] += St[j * N + i] * Dt[j * N + i];
}

// Finishes one step: the decay's gradient, the bonus, the scaling of the keys. q is moved from t to t - 1.
template <class T>
void finish_step(const Wkv6BackwardArgs<T>& p, const Head& head, int64_t t, int64_t row, Scratch<T>& m, Carried<T>& c, T* q) {
  const int64_t N = m.N();
  const T* const r = m.rows(kR) + row * N;
  const T* const key = m.rows(kK) + row * N;
  const T* const v = m.rows(kV) + row * N;
  const T* const decay = m.rows(kDecayRows) + row * N;
  const T* const key_scale = m.rows(kKeyScale) + row * N;
  const T* const dy = m.rows(kDy) + row * N;
  T* const dkey = m.rows(kDk) + row * N;
  T* const dv = m.rows(kDv) + row * N;
  T* const dr = p.dr + head.at(t);
  T* const dk = p.dk + head.at(t);
  T* const dw = p.dw + head.at(t);
  const T* const w = p.forward.w + head.at(t);
  const T* const k = p.forward.k + head.at(t);
  const T* const u = p.forward.u ? p.forward.u + head.index * head.N : nullptr;
  T dlw[1024];
#pragma omp simd
  for (int64_t i = 0; i < head.N; ++i) {
    dlw[i] = decay[i] < T(kForgotten) ? T(0) : q[i] - key[i] * dkey[i];
    q[i] = dlw[i] + r[i] * dr[i];
  }
  if (u) {
    T db = 0;
#pragma omp simd reduction(+ : db)
    for (int64_t j = 0; j < head.N; ++j) db += dy[j] * v[j];
    const T b = bonus(r, u, key, head.N);
#pragma omp simd
    for (int64_t i = 0; i < head.N; ++i) {
      dv[i] += b * dy[i];
      dr[i] += db * u[i] * key[i];
      dkey[i] += db * u[i] * r[i];
      c.du[i] += db * r[i] * key[i];
    }
  }
  const bool scaled = p.forward.scale_keys;
#pragma omp simd
  for (int64_t i = 0; i < head.N; ++i) {
    const T d = scaled ? dlw[i] - dkey[i] * k[i] * decay[i] : dlw[i];
    dw[i] = d * -simd::exp(w[i]);
    dk[i] = dkey[i] * key_scale[i];
  }
  std::copy_n(dv, head.N, p.dv + head.at(t));
}

template <class T> void backward_head(const Wkv6BackwardArgs<T>& p, const Head& head, T* du) {
  const Wkv6Args<T>& f = p.forward;
  Scratch<T> m(head.N);
  const int64_t N = m.N(), chunks = (f.Tn + kAnchor - 1) / kAnchor;
  std::vector<T> states((chunks + 1) * N * N);  // S^T before each chunk and after the last
  for (int64_t c = 0; c < chunks; ++c) {
    const int64_t begin = c * kAnchor, end = std::min(begin + kAnchor, f.Tn);
    load_chunk(f, head, begin, end, m);
    load_rows(head, p.dy, begin, end, m.rows(kDy), N);
    std::fill_n(m.rows(kOut), (end - begin) * N, T(0));
    std::copy_n(&states[c * N * N], N * N, &states[(c + 1) * N * N]);
    scan<T, DecayAlong::lanes, Time::forward>(
        {m.rows(kDy), m.rows(kV), m.rows(kK), m.rows(kDecayRows), m.rows(kOut), &states[(c + 1) * N * N]}, end - begin, N);
    store_rows(head, m.rows(kOut), begin, end, p.dr, N);
  }
  Carried<T> carried(N);
  std::vector<T> q(N);
  for (int64_t c = chunks - 1; c >= 0; --c) {
    const int64_t begin = c * kAnchor, end = std::min(begin + kAnchor, f.Tn);
    load_chunk(f, head, begin, end, m);
    load_rows(head, p.dy, begin, end, m.rows(kDy), N);
    anchor(&states[(c + 1) * N * N], carried.Dt.data(), N, q.data());
    std::fill_n(m.rows(kDk), (end - begin) * N, T(0));
    std::fill_n(m.rows(kDv), (end - begin) * N, T(0));
    scan<T, DecayAlong::lanes, Time::backward>(
        {m.rows(kV), m.rows(kDy), m.rows(kR), m.rows(kDecayRows), m.rows(kDk), carried.Dt.data()}, end - begin, N);
    scan<T, DecayAlong::rows, Time::backward>(
        {m.rows(kK), m.rows(kR), m.rows(kDy), m.rows(kDecayRows), m.rows(kDv), carried.D.data()}, end - begin, N);
    for (int64_t t = end - 1; t >= begin; --t) finish_step(p, head, t, t - begin, m, carried, q.data());
  }
  if (du) std::copy_n(carried.du.data(), head.N, du);
}

}  // namespace

template <class T> void wkv6(const Wkv6Args<T>& p) {
  parallel_for(p.B * p.H, [&](int64_t task) { forward_head(p, head_of(p, task)); });
}

template <class T> void wkv6_backward(const Wkv6BackwardArgs<T>& p) {
  parallel_for(p.forward.B * p.forward.H, [&](int64_t task) {
    backward_head(p, head_of(p.forward, task), p.du_partial ? p.du_partial + task * p.forward.N : nullptr);
  });
}

template void wkv6(const Wkv6Args<float>&);
template void wkv6(const Wkv6Args<double>&);
template void wkv6_backward(const Wkv6BackwardArgs<float>&);
template void wkv6_backward(const Wkv6BackwardArgs<double>&);

}  // namespace gf::cpu
