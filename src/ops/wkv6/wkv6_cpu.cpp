// SPDX-License-Identifier: Apache-2.0
// The sequential form: on a CPU a tile of the state that stays in registers for a whole chunk of steps beats the
// chunked matrix form, and nothing in it can overflow, since strong decays are folded at once (wkv6_scan.h).
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "base/parallel_for.h"
#include "ops/cpu/simd.h"
#include "ops/wkv6/kernels.h"
#include "ops/wkv6/wkv6_scan.h"

namespace gf::cpu {
namespace {

// Steps a tile stays in registers, few enough for the first cache to hold their rows; in the backward pass also the
// distance of the decay gradient's anchors.
constexpr int64_t kChunk = 32;
static_assert(kChunk <= 64, "a bit for each step of a scan (Folds)");
constexpr double kForgotten = 1e-7;

enum Rows : int { kR, kK, kV, kOut, kDy, kDr, kDk, kDv, kRead, kFolds, kNumRows };

// What follows from w alone, for some steps: the decay, its logarithm, and where keys are scaled 1 - decay.
template <class T>
struct Decays {
  T *decay, *log, *key_scale;  // steps x N each
};

// A thread's working memory, kept from call to call. Rows are padded to whole registers and begin on cache lines;
// the padding stays zero, and so does all that is computed in it.
template <class T>
class Scratch {
 public:
  // The calling thread's, fit for heads of N, this many states of N x N and the decays of this many steps.
  static Scratch& of(int64_t N, int64_t num_states, int64_t num_steps) {
    thread_local Scratch scratch;
    scratch.fit(N, num_states, num_steps);
    return scratch;
  }
  int64_t N() const { return N_; }
  T* rows(int which) { return memory_.get() + which * rows_size_; }
  T* state(int64_t i) { return memory_.get() + kNumRows * rows_size_ + i * N_ * N_; }
  Decays<T> decays(int64_t step) {
    T* const first = state(num_states_) + step * N_;
    return {first, first + num_steps_ * N_, first + 2 * num_steps_ * N_};
  }

 private:
  void fit(int64_t N, int64_t num_states, int64_t num_steps) {
    constexpr int64_t lanes = kLanes<T>;
    N_ = (N + lanes - 1) / lanes * lanes;
    rows_size_ = kChunk * N_ + 2 * 64 / static_cast<int64_t>(sizeof(T));  // skewed: no two rows lie 4 KiB apart
    num_states_ = num_states, num_steps_ = num_steps;
    const int64_t size = kNumRows * rows_size_ + num_states * N_ * N_ + 3 * num_steps * N_;
    if (size > size_) {
      constexpr size_t kPage = size_t{2} << 20;  // a large one: the states of a long sequence are many small pages
      const size_t bytes = (size * sizeof(T) + kPage - 1) / kPage * kPage;
      memory_.reset(static_cast<T*>(std::aligned_alloc(kPage, bytes)));
      if (!memory_) throw std::bad_alloc();
      madvise(memory_.get(), bytes, MADV_HUGEPAGE);
      size_ = size;
    }
    if (N == N_) return;
    std::fill_n(memory_.get(), kNumRows * rows_size_, T(0));
    std::fill_n(decays(0).decay, 3 * num_steps * N_, T(0));
  }
  int64_t N_ = 0, rows_size_ = 0, num_states_ = 0, num_steps_ = 0, size_ = 0;
  std::unique_ptr<T[], decltype([](T* p) { std::free(p); })> memory_;
};

// One head of one sequence: where its rows lie in the tensors.
struct Head {
  int64_t N, stride, base, index;  // row t begins at base + t * stride
  int64_t state;                   // its N x N begin there
  int64_t at(int64_t t) const { return base + t * stride; }
};

template <class T>
Head head_of(const Wkv6Args<T>& p, int64_t task) {
  const int64_t b = task / p.H, h = task % p.H;
  return {p.N, p.H * p.N, b * p.Tn * p.H * p.N + h * p.N, h, task * p.N * p.N};
}

template <class T>
inline void copy_row(const T* from, T* to, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load(from + i));
  for (; i < n; ++i) to[i] = from[i];
}

template <class T>
void load_rows(const Head& head, const T* from, int64_t begin, int64_t end, T* to, int64_t N) {
  for (int64_t t = begin; t < end; ++t) copy_row(from + head.at(t), to + (t - begin) * N, head.N);
}

template <class T>
void store_rows(const Head& head, const T* from, int64_t begin, int64_t end, T* to, int64_t N) {
  for (int64_t t = begin; t < end; ++t) copy_row(from + (t - begin) * N, to + head.at(t), head.N);
}

// The head's rows of these tensors from step `begin` on; null tensors and steps outside the sequence have none.
template <class T>
Ahead rows_ahead(const Wkv6Args<T>& p, const Head& head, int64_t begin, std::initializer_list<const T*> tensors) {
  Ahead ahead{head.stride * static_cast<int64_t>(sizeof(T))};
  constexpr int64_t kLine = 64 / sizeof(T);
  if (begin >= 0 && begin < p.Tn)
    for (const T* tensor : tensors)
      for (int64_t i = 0; tensor && i < head.N; i += kLine)
        ahead.lines.push_back(reinterpret_cast<uintptr_t>(tensor + head.at(begin) + i));
  return ahead;
}

// 1 - decay comes from expm1: k' keeps its digits where decays are near 1.
template <class T>
void load_decays(const Wkv6Args<T>& p, const Head& head, int64_t begin, int64_t end, int64_t N, const Decays<T>& to) {
  load_rows(head, p.w, begin, end, to.log, N);
  T *const decay = to.decay, *const log = to.log, *const key_scale = to.key_scale;
  const int64_t n = (end - begin) * N;
  if (p.scale_keys) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      log[i] = -simd::exp(log[i]);
      const T less_one = simd::expm1(log[i]);
      decay[i] = T(1) + less_one;
      key_scale[i] = -less_one;
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      log[i] = -simd::exp(log[i]);
      decay[i] = simd::exp(log[i]);
    }
  }
}

// k' of steps [begin, end).
template <class T>
void load_keys(const Wkv6Args<T>& p, const Head& head, int64_t begin, int64_t end, int64_t N, const Decays<T>& decays,
               T* key) {
  load_rows(head, p.k, begin, end, key, N);
  if (!p.scale_keys) return;
#pragma omp simd
  for (int64_t i = 0; i < (end - begin) * N; ++i) key[i] *= decays.key_scale[i];
}

template <class T>
void multiply(T* a, const T* by, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) a[i] *= by[i];
}

template <class T>
T bonus(const T* r, const T* u, const T* k, int64_t N) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < N; ++i) sum += r[i] * u[i] * k[i];
  return sum;
}

template <class T>
void forward_head(const Wkv6Args<T>& p, const Head& head) {
  Scratch<T>& m = Scratch<T>::of(head.N, 1, kChunk);
  const int64_t N = m.N();
  std::fill_n(m.state(0), N * N, T(0));
  if (p.state)
    for (int64_t i = 0; i < head.N; ++i) copy_row(p.state + head.state + i * head.N, m.state(0) + i * N, head.N);
  T* const y = m.rows(kOut);
  const Decays<T> decays = m.decays(0);
  for (int64_t begin = 0; begin < p.Tn; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, p.Tn);
    load_rows(head, p.r, begin, end, m.rows(kR), N);
    load_rows(head, p.v, begin, end, m.rows(kV), N);
    load_decays(p, head, begin, end, N, decays);
    load_keys(p, head, begin, end, N, decays, m.rows(kK));
    if (p.add)
      load_rows(head, p.add, begin, end, y, N);
    else
      std::fill_n(y, (end - begin) * N, T(0));
    if (p.u)
      for (int64_t row = 0; row < (end - begin) * N; row += N) {
        const T b = bonus(m.rows(kR) + row, p.u + head.index * head.N, m.rows(kK) + row, head.N);
        const T* const v = m.rows(kV) + row;
#pragma omp simd
        for (int64_t j = 0; j < head.N; ++j) y[row + j] += b * v[j];
      }
    T *const r = m.rows(kR), *const key = m.rows(kK);
    const auto scale = [&](int64_t at, const Vector<T>& added, const Vector<T>& read) {
      store(r + at, load(r + at) * read);
      store(key + at, load(key + at) * added);
    };
    const Folds<T> folds = fold_decays<Time::forward>(decays.decay, end - begin, N, m.rows(kFolds), scale);
    scan<DecayAlong::rows, Time::forward, T>({r, key, m.rows(kV), folds, y, true, m.state(0), m.state(0)}, end - begin,
                                             N, rows_ahead(p, head, end, {p.r, p.v, p.k, p.w, p.add, p.y}));
    store_rows(head, y, begin, end, p.y, N);
  }
  if (p.state)
    for (int64_t i = 0; i < head.N; ++i) copy_row(m.state(0) + i * N, p.state + head.state + i * head.N, head.N);
}

// The decay's gradient. q_t = sum_j S_t[i][j] D_t[i][j], with D = dL/dS, obeys dlw_t = q_t - k'_t dk'_t and
// q_{t-1} = dlw_t + r_t dr'_t, for the log decay lw and without the bonus. One sum a chunk anchors it, so that
// rounding cannot pile up over more than kChunk steps. Where a decay is under kForgotten, |dlw| <= decay |q_{t-1}|
// is less than q's own rounding, which dw = dlw lw would blow up: it is zero there, and the sum starts afresh.
template <class T, int W>
void decay_gradient_columns(const T* St, const T* Dt, int64_t steps, const T* decay, Scratch<T>& m, int64_t first) {
  constexpr int64_t L = kLanes<T>;
  const int64_t N = m.N();
  Vector<T> q[W] = {};
  for (int64_t at = first; at < N * N; at += N)
#pragma GCC unroll 4
    for (int i = 0; i < W; ++i) q[i] += load(St + at + i * L) * load(Dt + at + i * L);
  for (int64_t t = steps - 1; t >= 0; --t)
#pragma GCC unroll 4
    for (int i = 0; i < W; ++i) {
      const int64_t at = t * N + first + i * L;
      const Vector<T> dlw =
          load(decay + at) < T(kForgotten) ? Vector<T>{} : q[i] - load(m.rows(kK) + at) * load(m.rows(kDk) + at);
      q[i] = dlw + load(m.rows(kR) + at) * load(m.rows(kDr) + at);
      store(m.rows(kOut) + at, dlw);
    }
}

template <class T>
void decay_gradient(const T* St, const T* Dt, int64_t steps, const T* decay, Scratch<T>& m) {
  constexpr int64_t L = kLanes<T>;
  int64_t col = 0;  // side by side, so that no channel waits for the steps of another
  for (; col + 4 * L <= m.N(); col += 4 * L) decay_gradient_columns<T, 4>(St, Dt, steps, decay, m, col);
  for (; col < m.N(); col += L) decay_gradient_columns<T, 1>(St, Dt, steps, decay, m, col);
}

template <class T>
void bonus_gradient(const T* u, int64_t head_size, int64_t steps, Scratch<T>& m, T* du) {
  const int64_t N = m.N();
  for (int64_t row = 0; row < steps * N; row += N) {
    const T *const r = m.rows(kR) + row, *const key = m.rows(kK) + row, *const v = m.rows(kV) + row;
    const T* const dy = m.rows(kDy) + row;
    T *const dr = m.rows(kDr) + row, *const dkey = m.rows(kDk) + row, *const dv = m.rows(kDv) + row;
    T db = 0;
#pragma omp simd reduction(+ : db)
    for (int64_t j = 0; j < head_size; ++j) db += dy[j] * v[j];
    const T b = bonus(r, u, key, head_size);
#pragma omp simd
    for (int64_t i = 0; i < head_size; ++i) {
      dv[i] += b * dy[i];
      dr[i] += db * u[i] * key[i];
      dkey[i] += db * u[i] * r[i];
      du[i] += db * r[i] * key[i];
    }
  }
}

// From the gradients of k' and the log decay to those of k and w.
template <class T>
void store_keys(const Wkv6BackwardArgs<T>& p, const Head& head, int64_t begin, int64_t end, const Decays<T>& decays,
                Scratch<T>& m) {
  const int64_t N = m.N();
  for (int64_t t = begin; t < end; ++t) {
    const int64_t row = (t - begin) * N;
    const T *const dlw = m.rows(kOut) + row, *const log_decay = decays.log + row;
    const T* const dkey = m.rows(kDk) + row;
    T *const dw = p.dw + head.at(t), *const dk = p.dk + head.at(t);
    if (p.forward.scale_keys) {
      const T *const key_scale = decays.key_scale + row, *const decay = decays.decay + row;
      const T* const k = p.forward.k + head.at(t);
#pragma omp simd
      for (int64_t i = 0; i < head.N; ++i) {
        dw[i] = (dlw[i] - dkey[i] * k[i] * decay[i]) * log_decay[i];
        dk[i] = dkey[i] * key_scale[i];
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < head.N; ++i) {
        dw[i] = dlw[i] * log_decay[i];
        dk[i] = dkey[i];
      }
    }
  }
}

template <class T>
void load_transposed(const T* from, int64_t head_size, T* to, int64_t N) {
  for (int64_t i = 0; i < head_size; ++i)
    for (int64_t j = 0; j < head_size; ++j) to[j * N + i] = from[i * head_size + j];
}

// Forward in time: dr' = S_{t-1} dy. Keeps S^T before each chunk and after the last, as m.state(0 .. chunks), and the
// decays of all steps.
template <class T>
void backward_pass_over_states(const Wkv6BackwardArgs<T>& p, const Head& head, Scratch<T>& m) {
  const Wkv6Args<T>& f = p.forward;
  const int64_t N = m.N();
  std::fill_n(m.state(0), N * N, T(0));
  if (f.state) load_transposed(f.state + head.state, head.N, m.state(0), N);
  for (int64_t begin = 0, c = 0; begin < f.Tn; begin += kChunk, ++c) {
    const int64_t end = std::min(begin + kChunk, f.Tn);
    load_rows(head, f.v, begin, end, m.rows(kV), N);
    load_rows(head, p.dy, begin, end, m.rows(kDy), N);
    const Decays<T> decays = m.decays(begin);
    load_decays(f, head, begin, end, N, decays);
    load_keys(f, head, begin, end, N, decays, m.rows(kK));
    T *const key = m.rows(kK), *const kept_read = m.rows(kRead);
    const auto scale = [&](int64_t at, const Vector<T>& added, const Vector<T>& read) {
      store(key + at, load(key + at) * added);
      store(kept_read + at, read);
    };
    const Folds<T> folds = fold_decays<Time::forward>(decays.decay, end - begin, N, m.rows(kFolds), scale);
    scan<DecayAlong::lanes, Time::forward, T>(
        {m.rows(kDy), m.rows(kV), key, folds, m.rows(kDr), false, m.state(c), m.state(c + 1)}, end - begin, N,
        rows_ahead(f, head, end, {f.v, f.k, f.w, p.dy, p.dr}));
    multiply(m.rows(kDr), kept_read, (end - begin) * N);
    store_rows(head, m.rows(kDr), begin, end, p.dr, N);
  }
}

template <class T>
void backward_head(const Wkv6BackwardArgs<T>& p, const Head& head, T* du) {
  const Wkv6Args<T>& f = p.forward;
  const int64_t chunks = (f.Tn + kChunk - 1) / kChunk;
  Scratch<T>& m = Scratch<T>::of(head.N, chunks + 4, chunks * kChunk);
  const int64_t N = m.N();
  backward_pass_over_states(p, head, m);
  T *const D = m.state(chunks + 1), *Dt = m.state(chunks + 2), *Dt_before = m.state(chunks + 3);
  std::fill_n(D, 2 * N * N, T(0));
  if (p.dstate_last) {
    for (int64_t i = 0; i < head.N; ++i) copy_row(p.dstate_last + head.state + i * head.N, D + i * N, head.N);
    load_transposed(p.dstate_last + head.state, head.N, Dt, N);
  }
  if (du) std::fill_n(du, head.N, T(0));
  for (int64_t c = chunks - 1; c >= 0; --c) {
    const int64_t begin = c * kChunk, end = std::min(begin + kChunk, f.Tn), steps = end - begin;
    load_rows(head, f.r, begin, end, m.rows(kR), N);
    load_rows(head, f.v, begin, end, m.rows(kV), N);
    load_rows(head, p.dy, begin, end, m.rows(kDy), N);
    const Decays<T> decays = m.decays(begin);
    load_keys(f, head, begin, end, N, decays, m.rows(kK));
    std::swap(Dt, Dt_before);
    // The scaled ones lie where the scans leave room.
    const T *const r = m.rows(kR), *const key = m.rows(kK);
    T *const scaled_r = m.rows(kDr), *const scaled_key = m.rows(kOut), *const kept_read = m.rows(kRead);
    const auto scale = [&](int64_t at, const Vector<T>& added, const Vector<T>& read) {
      store(scaled_r + at, load(r + at) * added);
      store(scaled_key + at, load(key + at) * read);
      store(kept_read + at, read);
    };
    const Folds<T> folds = fold_decays<Time::backward>(decays.decay, steps, N, m.rows(kFolds), scale);
    scan<DecayAlong::lanes, Time::backward, T>(
        {m.rows(kV), m.rows(kDy), scaled_r, folds, m.rows(kDk), false, Dt_before, Dt}, steps, N,
        rows_ahead(f, head, begin - kChunk, {f.r, f.v, f.k, p.dy}));
    multiply(m.rows(kDk), kept_read, steps * N);
    scan<DecayAlong::rows, Time::backward, T>({scaled_key, scaled_r, m.rows(kDy), folds, m.rows(kDv), false, D, D},
                                              steps, N, rows_ahead(f, head, begin - kChunk, {p.dr, p.dk, p.dv, p.dw}));
    load_rows(head, p.dr, begin, end, m.rows(kDr), N);
    decay_gradient(m.state(c + 1), Dt_before, steps, decays.decay, m);
    if (f.u) bonus_gradient(f.u + head.index * head.N, head.N, steps, m, du);
    store_keys(p, head, begin, end, decays, m);
    store_rows(head, m.rows(kDr), begin, end, p.dr, N);
    store_rows(head, m.rows(kDv), begin, end, p.dv, N);
  }
  if (p.dstate_first)
    for (int64_t i = 0; i < head.N; ++i) copy_row(D + i * N, p.dstate_first + head.state + i * head.N, head.N);
}

}  // namespace

template <class T>
void wkv6(const Wkv6Args<T>& p) {
  parallel_for(p.B * p.H, [&](int64_t task) { forward_head(p, head_of(p, task)); });
}

template <class T>
void wkv6_backward(const Wkv6BackwardArgs<T>& p) {
  parallel_for(p.forward.B * p.forward.H, [&](int64_t task) {
    backward_head(p, head_of(p.forward, task), p.du_partial ? p.du_partial + task * p.forward.N : nullptr);
  });
}

template void wkv6(const Wkv6Args<float>&);
template void wkv6(const Wkv6Args<double>&);
template void wkv6_backward(const Wkv6BackwardArgs<float>&);
template void wkv6_backward(const Wkv6BackwardArgs<double>&);

}  // namespace gf::cpu
