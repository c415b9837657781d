// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <memory>

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "base/error.h"

namespace gf::cpu {
namespace {

// oneDNN asks OpenMP how many threads it may use. Inside a parallel loop the answer is one; here it is made one.
class OneThread {
 public:
  OneThread() : before_(omp_in_parallel() ? 0 : omp_get_max_threads()) {
    if (before_ > 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ > 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

void sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
           int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (status == dnnl_out_of_memory)
    fail(cat("oneDNN cannot get the memory for a product of ", m, "x", n, "x", k),
         "a smaller --train.micro_bsz with more --train.accumulate_grad_batches, or --train.grad_cp 1");
  GF_CHECK(status == dnnl_success, "dnnl_sgemm ", m, "x", n, "x", k, ": status ", status);
}

#ifdef __AVX2__
// to[col * to_stride + row] = from[row * from_stride + col], of 8 rows and columns.
void transpose_8x8(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  __m256 row[8], pair[8];
  for (int i = 0; i < 8; ++i) row[i] = _mm256_loadu_ps(from + i * from_stride);
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    row[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    row[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
    row[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    row[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(row[i], row[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(row[i], row[i + 4], 0x31));
  }
}

void transpose(int64_t rows, int64_t cols, const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  const int64_t whole_rows = rows / 8 * 8, whole_cols = cols / 8 * 8;
  for (int64_t r = 0; r < whole_rows; r += 8)
    for (int64_t c = 0; c < whole_cols; c += 8)
      transpose_8x8(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) to[c * to_stride + r] = from[r * from_stride + c];
}

// A product of A^T by way of blocks of A that are turned over. Where a product is narrow, oneDNN's kernels for AVX2
// read both factors where they lie, A^T at 0.7 to 0.8 of the pace of A (and at 0.35 where its rows are a multiple of 4
// KiB apart); with AVX-512 it loses nothing.
class TurnedOver {
 public:
  static bool pays(int64_t n, int64_t k) {
    static const bool avx2 = !__builtin_cpu_supports("avx512f");
    return avx2 && (n >= 96 || k <= kSum);  // a narrow C would be read and written more than it is summed up
  }

  void sgemm(int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b, int64_t ldb,
             float beta, float* c, int64_t ldc) {
    for (int64_t first = 0; first < m; first += kRows) {
      const int64_t rows = std::min(kRows, m - first);
      for (int64_t at = 0; at < k; at += kSum) {
        const int64_t sum = std::min(kSum, k - at);
        transpose(sum, rows, a + at * lda + first, lda, block_, kStride);
        cpu::sgemm(false, false, rows, n, sum, alpha, block_, kStride, b + at * ldb, ldb, at == 0 ? beta : 1.0f,
                   c + first * ldc, ldc);
      }
    }
  }

 private:
  static constexpr int64_t kRows = 128, kSum = 256, kStride = kSum + 16;  // not a power of two: the cache's sets
  alignas(64) float block_[kRows * kStride];                              // 139 kB, in the second level of a cache
};
#endif

}  // namespace

template <>
void gemm<float>(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                 int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const OneThread one_thread;
#ifdef __AVX2__
  if (transpose_a && !transpose_b && k > 0 && TurnedOver::pays(n, k)) {
    static thread_local std::unique_ptr<TurnedOver> turned_over;  // only of threads that come here
    if (!turned_over) turned_over = std::make_unique<TurnedOver>();
    turned_over->sgemm(m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    return;
  }
#endif
  sgemm(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

template <>
void gemm<double>(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, double alpha, const double* a,
                  int64_t lda, const double* b, int64_t ldb, double beta, double* c, int64_t ldc) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Map = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;
  const Map A(a, transpose_a ? k : m, transpose_a ? m : k, Eigen::OuterStride<>(lda));
  const Map B(b, transpose_b ? n : k, transpose_b ? k : n, Eigen::OuterStride<>(ldb));
  Eigen::Map<Matrix, 0, Eigen::OuterStride<>> C(c, m, n, Eigen::OuterStride<>(ldc));
  if (beta == 0) C.setZero();
  if (beta != 0 && beta != 1) C *= beta;
  const Matrix left = transpose_a ? Matrix(A.transpose()) : Matrix(A);
  const Matrix right = transpose_b ? Matrix(B.transpose()) : Matrix(B);
  C.noalias() += alpha * left * right;
}

// Each tile packs its share of A and of B anew, which costs least where tiles are large and their rows long; but there
// must be a few for the threads to share, as long as they are large enough to be worth a task.
GemmTiles GemmTiles::of(int64_t m, int64_t n) {
  constexpr int64_t kRows = 384, kCols = 1024, kMultiple = 16, kFew = 4, kMany = 8;
  int64_t row_tiles = std::max<int64_t>(1, (m + kRows / 2) / kRows),
          col_tiles = std::max<int64_t>(1, (n + kCols - 1) / kCols);
  // So many tiles in all, by cutting `size` finer, but not below `least`; a power of two, for equal shares.
  const auto cut = [](int64_t& tiles, int64_t others, int64_t wanted, int64_t size, int64_t least) {
    const auto most = static_cast<uint64_t>(std::min((wanted + others - 1) / others, size / least));
    tiles = std::max(tiles, static_cast<int64_t>(std::bit_floor(most)));
  };
  cut(row_tiles, col_tiles, kMany, m, 128);
  cut(row_tiles, col_tiles, kFew, m, 64);
  cut(col_tiles, row_tiles, kMany, n, 256);
  cut(col_tiles, row_tiles, kFew, n, 64);
  const auto length = [](int64_t size, int64_t tiles) {
    return ((size + tiles - 1) / tiles + kMultiple - 1) / kMultiple * kMultiple;
  };
  return {length(m, row_tiles), length(n, col_tiles)};
}

}  // namespace gf::cpu
