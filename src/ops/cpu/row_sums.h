// SPDX-License-Identifier: Apache-2.0
// Sums over rows in a fixed order: each block of rows makes a partial row, the partial rows are added in block
// order. Threads share the blocks, then the columns.
#pragma once
#include "base/parallel_for.h"

namespace gf::cpu {

// sum[c] += partial[b * stride + c] over the blocks b, for c in [0, C).
template <class T>
void add_partial_rows(const T* partial, int64_t num_blocks, int64_t stride, int64_t C, T* sum) {
  parallel_ranges(C, 256, [&](int64_t begin, int64_t end) {
    for (int64_t b = 0; b < num_blocks; ++b) {
      const T* const row = partial + b * stride;
#pragma omp simd
      for (int64_t c = begin; c < end; ++c) sum[c] += row[c];
    }
  });
}

}  // namespace gf::cpu
