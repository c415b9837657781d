// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>
#include <utility>

#include "base/parallel_for.h"
#include "ops/cpu/tokens.h"
#include "ops/embedding/kernels.h"
#include "tensor/float_formats.h"

namespace gf::cpu {
namespace {

template <class T>
void add_row(const T* row, int64_t n, T* sum) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) sum[c] += row[c];
}

}  // namespace

template <class T>
void embedding(const EmbeddingArgs<T>& p) {
  check_tokens("embedding: token", p.tokens, p.M, p.V);
  parallel_ranges(p.M, 64, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      T* const y = p.y + m * p.C;
      const int64_t first = p.tokens[m] * p.C;
      for (int64_t c = 0; p.narrow_table && c < p.C; ++c) y[c] = float_from_bf16(p.narrow_table[first + c].bits);
      if (!p.narrow_table) std::copy_n(p.table + first, p.C, y);
    }
  });
}

// Positions are sorted by token. A task takes the tokens whose first position falls into its run, over a part of
// the columns: so a frequent token, the space of a text, is shared out too.
template <class T>
void embedding_backward(const EmbeddingBackwardArgs<T>& p) {
  std::iota(p.order, p.order + p.M, 0);
  std::sort(p.order, p.order + p.M,
            [&](int32_t a, int32_t b) { return std::pair(p.tokens[a], a) < std::pair(p.tokens[b], b); });
  const auto token = [&](int64_t i) { return p.tokens[p.order[i]]; };
  const Blocks runs = Blocks::of_length(p.M, 64), cols = Blocks::of_length(p.C, 128);
  parallel_for(runs.size() * cols.size(), [&](int64_t task) {
    const int64_t run = task / cols.size(), c = cols.begin(task % cols.size()),
                  width = cols.end(task % cols.size()) - c;
    int64_t i = runs.begin(run);
    while (i > 0 && i < runs.end(run) && token(i) == token(i - 1)) ++i;
    for (int64_t t = i; i < runs.end(run); t = i) {
      for (; i < p.M && token(i) == token(t); ++i)
        add_row(p.dy + p.order[i] * p.C + c, width, p.dtable + token(t) * p.C + c);
    }
  });
}

template void embedding(const EmbeddingArgs<float>&);
template void embedding(const EmbeddingArgs<double>&);
template void embedding_backward(const EmbeddingBackwardArgs<float>&);
template void embedding_backward(const EmbeddingBackwardArgs<double>&);

}  // namespace gf::cpu
