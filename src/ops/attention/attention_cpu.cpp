// SPDX-License-Identifier: Apache-2.0
// Scores are made in blocks of kQueries x kKeys, each one product of matrices, small enough to stay in the cache
// until the next product has used them. The blocks on the diagonal are cut off after the last key that any of
// their queries sees; what is beyond a single query's own position becomes a weight of zero.
#include <array>
#include <limits>
#include <vector>

#include "base/parallel_for.h"
#include "ops/attention/kernels.h"
#include "ops/cpu/gemm.h"
#include "ops/cpu/simd.h"

namespace gf::cpu {
namespace {

constexpr int64_t kQueries = 64;  // so few that little is lost on the diagonal, so many that products are fast
constexpr int64_t kKeys = kAttentionKeyBlock;
constexpr int64_t kChunk = 256;  // queries of a forward task, which share one packed copy of the keys and values

// A thread's working memory, kept between calls: malloc would get and give back pieces of this size from and to
// the kernel each time.
template <class T>
T* scratch(int64_t n) {
  thread_local std::vector<T> memory;
  if (static_cast<int64_t>(memory.size()) < n) memory.resize(n);
  return memory.data();
}

// One head of one sequence: where its rows begin, and what its scores are.
template <class T>
struct Head {
  int64_t N, C;
  int64_t q, k, lse;   // offsets of its first query (and output), key (and value), log-sum-exp
  int64_t Tk, before;  // positions before the first query
  T scale, slope;

  template <class Args>
  Head(const Args& p, int64_t index)
      : N(p.N),
        C(p.H * p.N),
        lse(index * p.Tq),
        Tk(p.Tk),
        before(p.before),
        scale(T(1) / std::sqrt(static_cast<T>(p.N))),
        slope(p.alibi ? static_cast<T>(alibi_slope(index % p.H, p.H)) : T(0)) {
    const int64_t b = index / p.H, h = index % p.H;
    q = b * p.Tq * C + h * N;
    k = b * p.Tk * C + h * N;
  }
  int64_t seen(int64_t query) const { return std::clamp<int64_t>(before + query + 1, 0, Tk); }   // keys
  T distance(int64_t query, int64_t key) const { return static_cast<T>(key - before - query); }  // zero or less
};

// A row of scores is worked on in whole vectors: `seen` of `n` scores, rounded up.
int64_t whole_vectors(int64_t seen, int64_t n) {
  return std::min((seen + 15) / 16 * 16, n);
}

// The rows of one head, side by side: the products that follow read them many times.
template <class T>
void pack(const T* from, int64_t rows, int64_t N, int64_t C, T* to) {
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < N; ++c) to[i * N + c] = from[i * C + c];
  }
}

// exp(x), or 0 where that is under 1e-28: nothing beside the row's largest weight, but multiplied further it would
// give denormal numbers, each of which costs a hundred cycles.
template <class T>
T weight(T x) {
  return x < T(-64) ? T(0) : simd::exp(x);
}

// Softmax over keys that come a block at a time: `sum` is of exp(score - max), as are the weights so far.
template <class T>
struct RunningSoftmax {
  T max = -std::numeric_limits<T>::infinity();
  T sum = 0;

  // Products q k become weights, in place. `distance` is from the query to the first key. Returns the factor that
  // brings what was summed up with earlier weights to the new maximum.
  T add(T* s, int64_t n, T scale, T slope, T distance) {
    T top = max;
#pragma omp simd reduction(max : top)
    for (int j = 0; j < static_cast<int>(n); ++j) {
      s[j] = s[j] * scale + slope * (distance + static_cast<T>(j));
      top = s[j] > top ? s[j] : top;
    }
    T more = 0;
#pragma omp simd reduction(+ : more)
    for (int64_t j = 0; j < n; ++j) {
      s[j] = weight(s[j] - top);
      more += s[j];
    }
    const T factor = top > max ? simd::exp(max - top) : T(1);
    max = top;
    sum = sum * factor + more;
    return factor;
  }
};

template <class T>
void scale_row(T* row, int64_t n, T factor) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) row[c] *= factor;
}

// Queries [begin, end) of one head against all the keys they see; at most kChunk of them.
template <class T>
class ForwardTask {
 public:
  ForwardTask(const AttentionArgs<T>& p, const Head<T>& head) : p_(p), head_(head) {
    s_ = scratch<T>(kQueries * kKeys + 2 * kKeys * head.N);
    k_ = s_ + kQueries * kKeys;
    v_ = k_ + kKeys * head.N;
  }

  void run(int64_t begin, int64_t end) {
    const int64_t N = head_.N, C = head_.C;
    std::array<RunningSoftmax<T>, kChunk> softmax{};
    for (int64_t i = begin; p_.go_on && i < end; ++i)
      if (const T lse = p_.lse[head_.lse + i]; lse > -std::numeric_limits<T>::infinity()) softmax[i - begin] = {lse, 1};
    const Blocks keys = Blocks::of_length(head_.seen(end - 1), kKeys);
    for (int64_t b = 0; b < keys.size(); ++b) {
      const int64_t first = keys.begin(b), last = keys.end(b);
      pack(p_.k + head_.k + first * C, last - first, N, C, k_);
      pack(p_.v + head_.k + first * C, last - first, N, C, v_);
      for (int64_t i = begin; i < end; i += kQueries)
        run_block(i, std::min(i + kQueries, end), first, last, &softmax[i - begin]);
    }
    for (int64_t i = begin; i < end; ++i) {
      const RunningSoftmax<T>& row = softmax[i - begin];
      T* const y = p_.y + head_.q + i * C;
      T& lse = p_.lse[head_.lse + i];
      if (row.sum == 0) {  // sees none of these keys
        std::fill_n(y, N, T(0));
        lse = -std::numeric_limits<T>::infinity();
      } else {
        scale_row(y, N, T(1) / row.sum);
        lse = row.max + std::log(row.sum);
      }
    }
  }

 private:
  void run_block(int64_t begin, int64_t end, int64_t first, int64_t last, RunningSoftmax<T>* softmax) {
    const int64_t N = head_.N, C = head_.C, rows = end - begin;
    const int64_t n = std::min(last, head_.seen(end - 1)) - first;
    if (n <= 0) return;
    const bool adds = first > 0 || p_.go_on;
    T* const y = p_.y + head_.q + begin * C;
    gemm<T>(false, true, rows, n, N, T(1), p_.q + head_.q + begin * C, C, k_, N, T(0), s_, n);
    for (int64_t r = 0; r < rows; ++r) {
      T* const row = s_ + r * n;
      const int64_t seen = std::clamp<int64_t>(head_.seen(begin + r) - first, 0, n), width = whole_vectors(seen, n);
      std::fill(row + seen, row + width, -std::numeric_limits<T>::infinity());
      std::fill(row + width, row + n, T(0));
      const T factor = softmax[r].add(row, width, head_.scale, head_.slope, head_.distance(begin + r, first));
      if (adds && factor != T(1)) scale_row(y + r * C, N, factor);
    }
    gemm<T>(false, false, rows, N, n, T(1), s_, n, v_, N, adds ? T(1) : T(0), y, C);
  }

  const AttentionArgs<T>& p_;
  const Head<T>& head_;
  T* s_;       // kQueries x kKeys: scores, then weights
  T *k_, *v_;  // kKeys x N, packed
};

// delta_i = <dy_i, y_i> in each head: the part of the softmax's gradient that all keys share.
template <class T>
void fill_delta(const AttentionBackwardArgs<T>& p) {
  parallel_ranges(p.B * p.Tq, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t h = 0; h < p.H; ++h) {
        const int64_t at = (row * p.H + h) * p.N;
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < p.N; ++c) sum += p.dy[at + c] * p.y[at + c];
        p.delta[(row / p.Tq * p.H + h) * p.Tq + row % p.Tq] = sum;
      }
    }
  });
}

// Products q k become weights, products dy v become the gradients of the products q k; both in place.
template <class T>
void weights_and_gradients(T* s, T* ds, int64_t n, T scale, T slope, T distance, T lse, T delta) {
#pragma omp simd
  for (int j = 0; j < static_cast<int>(n); ++j) {
    s[j] = weight(s[j] * scale + slope * (distance + static_cast<T>(j)) - lse);
    ds[j] = s[j] * (ds[j] - delta) * scale;
  }
}

// Blocks of keys group, group + groups, ... of one head, and all queries that see them: whole columns of dk and
// dv, and this group's part of dq.
template <class T>
class BackwardTask {
 public:
  BackwardTask(const AttentionBackwardArgs<T>& p, const Head<T>& head, T* dq) : p_(p), head_(head), dq_(dq) {
    const int64_t block = kQueries * kKeys, rows = kKeys * head.N;
    s_ = scratch<T>(2 * block + 2 * rows);
    ds_ = s_ + block;
    k_ = ds_ + block;
    v_ = k_ + rows;
  }

  void run(int64_t group, int64_t groups) {
    const Blocks keys = Blocks::of_length(p_.Tk, kKeys);
    for (int64_t b = group; b < keys.size(); b += groups) run_keys(keys.begin(b), keys.end(b), b == group);
  }

 private:
  void run_keys(int64_t first, int64_t last, bool first_of_group) {
    const int64_t N = head_.N, C = head_.C, rows = last - first;
    pack(p_.k + head_.k + first * C, rows, N, C, k_);
    pack(p_.v + head_.k + first * C, rows, N, C, v_);
    // From the last queries, which see every key, to the first that see one: so the first products set dk and dv.
    const Blocks queries = Blocks::of_length(p_.Tq, kQueries);
    for (int64_t b = queries.size() - 1; b >= 0 && head_.seen(queries.end(b) - 1) > first; --b)
      run_block(queries.begin(b), queries.end(b), first, last, b == queries.size() - 1, first_of_group);
  }

  void run_block(int64_t begin, int64_t end, int64_t first, int64_t last, bool sets_keys, bool sets_queries) {
    const int64_t N = head_.N, C = head_.C, rows = end - begin;
    const int64_t n = std::min(last, head_.seen(end - 1)) - first;
    const T* const q = p_.q + head_.q + begin * C;
    const T* const dy = p_.dy + head_.q + begin * C;
    gemm<T>(false, true, rows, n, N, T(1), q, C, k_, N, T(0), s_, n);
    gemm<T>(false, true, rows, n, N, T(1), dy, C, v_, N, T(0), ds_, n);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t i = begin + r, seen = std::clamp<int64_t>(head_.seen(i) - first, 0, n);
      T *const s = s_ + r * n, *const ds = ds_ + r * n;
      weights_and_gradients(s, ds, whole_vectors(seen, n), head_.scale, head_.slope, head_.distance(i, first),
                            p_.lse[head_.lse + i], p_.delta[head_.lse + i]);
      std::fill(s + seen, s + n, T(0));
      std::fill(ds + seen, ds + n, T(0));
    }
    const T keep_keys = sets_keys ? T(0) : T(1), keep_queries = sets_queries ? T(0) : T(1);
    const int64_t key = head_.k + first * C;
    if (p_.dv) gemm<T>(true, false, n, N, rows, T(1), s_, n, dy, C, keep_keys, p_.dv + key, C);
    if (p_.dk) gemm<T>(true, false, n, N, rows, T(1), ds_, n, q, C, keep_keys, p_.dk + key, C);
    if (dq_) gemm<T>(false, false, rows, N, n, T(1), ds_, n, k_, N, keep_queries, dq_ + head_.q + begin * C, C);
  }

  const AttentionBackwardArgs<T>& p_;
  const Head<T>& head_;
  T* dq_;
  T *s_, *ds_;  // kQueries x kKeys: scores then weights, and their gradients
  T *k_, *v_;   // kKeys x N, packed
};

// Adds the other groups' parts of dq. A group has touched only the queries that see its first block of keys.
template <class T>
void add_partial_queries(const AttentionBackwardArgs<T>& p, int64_t groups) {
  const int64_t C = p.H * p.N;
  const Blocks queries = Blocks::of_length(p.Tq, kQueries);
  parallel_for(p.B * queries.size(), [&](int64_t task) {
    const int64_t b = task / queries.size(), begin = queries.begin(task % queries.size());
    const int64_t end = queries.end(task % queries.size()), n = (end - begin) * C;
    T* const dq = p.dq + (b * p.Tq + begin) * C;
    for (int64_t g = 1; g < groups && p.before + end > g * kKeys; ++g) {
      const T* const part = p.partial + (((g - 1) * p.B + b) * p.Tq + begin) * C;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) dq[i] += part[i];
    }
  });
}

}  // namespace

template <class T>
void attention(const AttentionArgs<T>& p) {
  const Blocks chunks = Blocks::of_length(p.Tq, kChunk);
  parallel_for(p.B * p.H * chunks.size(), [&](int64_t task) {
    // The last queries see the most keys: they go first, so that no long task is left for the end.
    const int64_t chunk = chunks.size() - 1 - task / (p.B * p.H);
    const Head<T> head(p, task % (p.B * p.H));
    ForwardTask<T>(p, head).run(chunks.begin(chunk), chunks.end(chunk));
  });
}

template <class T>
void attention_backward(const AttentionBackwardArgs<T>& p) {
  fill_delta(p);
  const int64_t groups = attention_key_groups(p.B, p.H, p.Tk);
  parallel_for(p.B * p.H * groups, [&](int64_t task) {
    const Head<T> head(p, task % (p.B * p.H));
    const int64_t group = task / (p.B * p.H);
    T* const dq = !p.dq || group == 0 ? p.dq : p.partial + (group - 1) * p.B * p.Tq * p.H * p.N;
    BackwardTask<T>(p, head, dq).run(group, groups);
  });
  if (p.dq) add_partial_queries(p, groups);
}

template void attention(const AttentionArgs<float>&);
template void attention(const AttentionArgs<double>&);
template void attention_backward(const AttentionBackwardArgs<float>&);
template void attention_backward(const AttentionBackwardArgs<double>&);

}  // namespace gf::cpu
