// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/few_rows.h"

#include <vector>

#include "ops/cpu/gemm.h"
#include "ops/cpu/vector.h"
#include "ops/cpu/with_constant.h"
#include "tensor/float_formats.h"

namespace gf::cpu {
namespace {

template <class T>
Vector<T> load_wide(const T* p) {
  return load(p);
}

// A bf16 is the upper half of a float.
Vector<float> load_wide(const BFloat16* p) {
  typedef uint16_t Half __attribute__((vector_size(kVectorBytes / 2)));
  typedef uint32_t Word __attribute__((vector_size(kVectorBytes)));
  Half half;
  std::memcpy(&half, p, sizeof half);
  const Word word = __builtin_convertvector(half, Word) << 16;
  return reinterpret_cast<Vector<float>>(word);
}

// The first n numbers of a register, and zeros.
template <class W, class T>
Vector<T> load_some(const W* p, int64_t n) {
  W numbers[kLanes<T>] = {};
  std::memcpy(numbers, p, static_cast<size_t>(n) * sizeof(W));
  return load_wide(numbers);
}

template <class T>
T sum_of(const Vector<T>& v) {
  T sum = 0;
  for (int64_t i = 0; i < kLanes<T>; ++i) sum += v[i];
  return sum;
}

// Of m rows of A with `count` rows of W that lie `apart` rows apart, as are the sums in C: as many sums at a time as
// keep the multipliers busy. What is left of a row goes the same way: a compiler rounds a loop of its own otherwise for
// one row than for many.
template <int m, int count, class T, class W>
void dot_products(int64_t k, const T* a, int64_t lda, const W* w, int64_t ldw, int64_t apart, bool accumulate, T* c,
                  int64_t ldc) {
  constexpr int64_t L = kLanes<T>, kLine = 64 / sizeof(W), kAhead = 8 * kLine;
  Vector<T> sums[count][m] = {};
  const auto add = [&](int64_t i) {
    Vector<T> x[m];
    for (int r = 0; r < m; ++r) x[r] = load(a + r * lda + i);
    for (int j = 0; j < count; ++j) {
      const Vector<T> y = load_wide(w + j * apart * ldw + i);
      for (int r = 0; r < m; ++r) sums[j][r] += y * x[r];
    }
  };
  int64_t i = 0;
  for (; i + kLine <= k; i += kLine) {
    for (int j = 0; j < count; ++j) __builtin_prefetch(w + j * apart * ldw + i + kAhead, 0, 3);
#pragma GCC unroll 4
    for (int64_t part = 0; part < kLine; part += L) add(i + part);
  }
  for (; i + L <= k; i += L) add(i);
  if (i < k)
    for (int j = 0; j < count; ++j) {
      const Vector<T> y = load_some<W, T>(w + j * apart * ldw + i, k - i);
      for (int r = 0; r < m; ++r) sums[j][r] += y * load_some<T, T>(a + r * lda + i, k - i);
    }
  for (int j = 0; j < count; ++j)
    for (int r = 0; r < m; ++r) {
      const T sum = sum_of<T>(sums[j][r]);
      T& out = c[r * ldc + j * apart];
      out = accumulate ? out + sum : sum;
    }
}

// W is read in a few streams, each of rows that follow one another in memory: what is asked for ahead of a row's end is
// the row after it.
template <int m, class T, class W>
void rows_of(int64_t n, int64_t k, const T* a, int64_t lda, const W* w, int64_t ldw, bool accumulate, T* c,
             int64_t ldc) {
  constexpr int kStreams = m <= 2 ? 4 : 2;
  const int64_t apart = n / kStreams;
  for (int64_t j = 0; j < apart; ++j)
    dot_products<m, kStreams>(k, a, lda, w + j * ldw, ldw, apart, accumulate, c + j, ldc);
  for (int64_t j = apart * kStreams; j < n; ++j)
    dot_products<m, 1>(k, a, lda, w + j * ldw, ldw, 1, accumulate, c + j, ldc);
}

}  // namespace

template <class T, class W>
void few_rows(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const W* w, int64_t ldw, bool accumulate, T* c,
              int64_t ldc) {
  // A task: rows enough for its streams, or so many numbers of W; few, since the others wait for the last one.
  constexpr int64_t kRows = 32, kRun = int64_t{1} << 13;
  with_constant<1, kFewRows>(static_cast<int>(m), [&](auto rows) {
    parallel_ranges(n, std::max(kRows, kRun / k), [&](int64_t begin, int64_t end) {
      rows_of<rows>(end - begin, k, a, lda, w + begin * ldw, ldw, accumulate, c + begin, ldc);
    });
  });
}

void narrow_product(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const BFloat16* w, int64_t ldw,
                    bool accumulate, float* c, int64_t ldc) {
  if (m <= kFewRows) return few_rows(m, n, k, a, lda, w, ldw, accumulate, c, ldc);
  constexpr int64_t kPart = 64;  // rows of W
  parallel_ranges(n, kPart, [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> wide;
    wide.resize(std::max<size_t>(wide.size(), static_cast<size_t>(kPart * k)));
    for (int64_t j = begin; j < end; ++j) {
      const BFloat16* const from = w + j * ldw;
      float* const to = wide.data() + (j - begin) * k;
#pragma omp simd
      for (int64_t i = 0; i < k; ++i) to[i] = float_from_bf16(from[i].bits);
    }
    gemm<float>(false, true, m, end - begin, k, 1, a, lda, wide.data(), k, accumulate ? 1.0f : 0.0f, c + begin, ldc);
  });
}

template void few_rows(int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, bool, float*, int64_t);
template void few_rows(int64_t, int64_t, int64_t, const double*, int64_t, const double*, int64_t, bool, double*,
                       int64_t);
template void few_rows(int64_t, int64_t, int64_t, const float*, int64_t, const BFloat16*, int64_t, bool, float*,
                       int64_t);

}  // namespace gf::cpu
