// SPDX-License-Identifier: Apache-2.0
// Matrix products on the CPU, row-major: C = alpha op(A) op(B) + beta C, op(A) m x k, op(B) k x n.
// float32 runs on oneDNN's generated kernels, which it keeps and finds again by shape; double, which only
// gradient checks use, on Eigen.
#pragma once
#include <cstdint>

#include "base/parallel_for.h"

namespace gf::cpu {

// On the calling thread alone, also inside a parallel loop.
template <class T>
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
          const T* b, int64_t ldb, T beta, T* c, int64_t ldc);

// How a product is cut into tasks: by its shape alone, never by the number of threads, so that the sums have
// the same order and so the same bits on any machine size.
struct GemmTiles {
  int64_t rows, cols;  // of one tile of C
  static GemmTiles of(int64_t m, int64_t n);
};

// On all threads. `epilogue(row_begin, row_end, col_begin, col_end)` runs on each finished tile of C while it is
// in the cache.
template <class T, class Epilogue>
void parallel_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda,
                   const T* b, int64_t ldb, T beta, T* c, int64_t ldc, Epilogue&& epilogue) {
  const GemmTiles tile = GemmTiles::of(m, n);
  const Blocks rows = Blocks::of_length(m, tile.rows), cols = Blocks::of_length(n, tile.cols);
  parallel_for(rows.size() * cols.size(), [&](int64_t task) {
    const int64_t i = rows.begin(task / cols.size()), ie = rows.end(task / cols.size());
    const int64_t j = cols.begin(task % cols.size()), je = cols.end(task % cols.size());
    gemm<T>(transpose_a, transpose_b, ie - i, je - j, k, T(1), a + (transpose_a ? i : i * lda), lda,
            b + (transpose_b ? j * ldb : j), ldb, beta, c + i * ldc + j, ldc);
    epilogue(i, ie, j, je);
  });
}

template <class T>
void parallel_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda,
                   const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  parallel_gemm(transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc,
                [](int64_t, int64_t, int64_t, int64_t) {});
}

}  // namespace gf::cpu
