// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "ops/cpu/gemm.h"
#include "ops/cpu/simd.h"
#include "ops/cpu/tokens.h"
#include "ops/head_loss/kernels.h"
#include "tensor/batch.h"

namespace gf::cpu {
namespace {

constexpr int64_t kRun = 1024;  // of logits: stays in the first cache; float sums are no longer than this

// Gradients of logits below this are taken as zero. Nothing notices them in a sum, but they and their products with
// weights and inputs would be denormal numbers, which make the products many times slower.
template <class T>
constexpr T kLeast = T(0x1p-100);

// A NaN never compares as larger; it shows in the sum of the exponentials.
template <class T>
T largest_of(const T* x, int64_t n) {
  constexpr int64_t kLanes = 64;
  constexpr T kNone = -std::numeric_limits<T>::infinity();
  T lane[kLanes];
  std::fill_n(lane, kLanes, kNone);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int64_t j = 0; j < kLanes; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  }
  T largest = kNone;
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (const T l : lane) largest = l > largest ? l : largest;
  return largest;
}

template <class T>
struct Largest {
  T value;
  int64_t index;  // the first of equals
};

template <class T>
Largest<T> find_largest(const T* x, int64_t n) {
  const Blocks runs = Blocks::of_length(n, kRun);
  T value = -std::numeric_limits<T>::infinity();
  int64_t run = 0;
  for (int64_t r = 0; r < runs.size(); ++r) {
    const T here = largest_of(x + runs.begin(r), runs.end(r) - runs.begin(r));
    if (here > value) value = here, run = r;
  }
  int64_t i = runs.begin(run);
  while (i + 1 < runs.end(run) && x[i] != value) ++i;
  return {value, i};
}

// x = exp(x - largest); returns the sum.
template <class T>
double exponentials(T* x, int64_t n, T largest) {
  const Blocks runs = Blocks::of_length(n, kRun);
  double total = 0;
  for (int64_t r = 0; r < runs.size(); ++r) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = runs.begin(r); i < runs.end(r); ++i) {
      x[i] = simd::exp(x[i] - largest);
      sum += x[i];
    }
    total += static_cast<double>(sum);
  }
  return total;
}

// Position m's loss; turns its logits into their gradient where one is wanted.
template <class T>
void loss_of_row(const HeadLossArgs<T>& p, int64_t m, T* logits) {
  const int32_t target = p.targets[m];
  const Largest<T> top = find_largest(logits, p.V);
  const double below = static_cast<double>(top.value) - static_cast<double>(logits[target]);
  const double total = exponentials(logits, p.V, top.value);
  p.losses[m] = std::log(total) + below;
  p.correct[m] = top.index == target;
  if (!p.dx && !p.dw) return;
  const T factor = static_cast<T>(p.scale / total), least = kLeast<T> / factor;
#pragma omp simd
  for (int64_t v = 0; v < p.V; ++v) {
    const T e = logits[v] < least ? T(0) : logits[v];
    logits[v] = e * factor;
  }
  logits[target] -= static_cast<T>(p.scale);
  if (p.pull != 0) logits[top.index] += static_cast<T>(p.pull * p.scale) * top.value;
}

// Positions whose logits are made together.
template <class T>
struct Chunk {
  int64_t end;   // it takes those with a target from where it begins to here
  int64_t rows;  // how many these are
  const T* x;    // their inputs, one after another
  T* dx;         // where their gradients go; null where not wanted
};

// With a mask its rows are copies, so that the products are only as large as what counts.
template <class T>
Chunk<T> chunk_from(const HeadLossArgs<T>& p, int64_t begin) {
  if (!p.masked) {
    const int64_t end = std::min(p.M, begin + p.chunks.rows);
    return {end, end - begin, p.x + begin * p.C, p.dx ? p.dx + begin * p.C : nullptr};
  }
  int64_t rows = 0, m = begin;
  for (; m < p.M && rows < p.chunks.rows; ++m) {
    if (p.targets[m] != kNoTarget) {
      std::copy_n(p.x + m * p.C, p.C, p.packed + rows * p.C);
      p.positions[rows++] = static_cast<int32_t>(m);
      continue;
    }
    p.losses[m] = 0, p.correct[m] = 0;
    if (p.dx) std::fill_n(p.dx + m * p.C, p.C, T(0));
  }
  return {m, rows, p.packed, p.dx ? p.packed + p.chunks.rows * p.C : nullptr};
}

// dx = dlogits W. The sum over V is as long as V, so it goes in panels whose share of W and of the logits the tiles
// find in the cache.
template <class T>
void input_gradient(const HeadLossArgs<T>& p, const Chunk<T>& chunk) {
  const Blocks panels = Blocks::of_length(p.V, 1024);
  const Blocks rows = Blocks::of_length(chunk.rows, 128), cols = Blocks::of_length(p.C, 256);
  for (int64_t v = 0; v < panels.size(); ++v) {
    const int64_t first = panels.begin(v), length = panels.end(v) - first;
    parallel_for(rows.size() * cols.size(), [&](int64_t task) {
      const int64_t i = rows.begin(task / cols.size()), ie = rows.end(task / cols.size());
      const int64_t j = cols.begin(task % cols.size()), je = cols.end(task % cols.size());
      gemm<T>(false, false, ie - i, je - j, length, T(1), p.logits + i * p.chunks.stride + first, p.chunks.stride,
              p.w + first * p.C + j, p.C, v == 0 ? T(0) : T(1), chunk.dx + i * p.C + j, p.C);
    });
  }
  if (!p.masked) return;
  for (int64_t row = 0; row < chunk.rows; ++row) std::copy_n(chunk.dx + row * p.C, p.C, p.dx + p.positions[row] * p.C);
}

template <class T>
void check_targets(const HeadLossArgs<T>& p) {
  for (int64_t m = 0; m < p.M; ++m)
    if (!p.masked || p.targets[m] != kNoTarget) check_token("head_loss: target", p.targets[m], m, p.V);
}

}  // namespace

template <class T>
void head_loss(const HeadLossArgs<T>& p) {
  check_targets(p);
  const int64_t stride = p.chunks.stride;
  for (int64_t begin = 0; begin < p.M;) {
    const Chunk<T> chunk = chunk_from(p, begin);
    const int64_t first = begin, rows = chunk.rows;
    begin = chunk.end;
    if (rows == 0) continue;
    parallel_gemm<T>(false, true, rows, p.V, p.C, chunk.x, p.C, p.w, p.C, T(0), p.logits, stride);
    parallel_ranges(rows, std::max<int64_t>(1, (1 << 14) / p.V), [&](int64_t row, int64_t row_end) {
      for (; row < row_end; ++row) loss_of_row(p, p.masked ? p.positions[row] : first + row, p.logits + row * stride);
    });
    if (p.dx) input_gradient(p, chunk);
    if (p.dw) parallel_gemm<T>(true, false, p.V, p.C, rows, p.logits, stride, chunk.x, p.C, T(1), p.dw, p.C);
  }
  double sum = 0;
  for (int64_t m = 0; m < p.M; ++m) sum += p.losses[m];
  *p.loss = static_cast<T>(p.scale * sum);
}

template void head_loss(const HeadLossArgs<float>&);
template void head_loss(const HeadLossArgs<double>&);

}  // namespace gf::cpu
