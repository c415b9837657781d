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

void copy(int64_t rows, int64_t cols, const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) std::copy_n(from + r * from_stride, cols, to + r * to_stride);
}

// oneDNN's kernels for AVX2 mostly read both factors where they lie: A^T at 0.7 to 0.8 of the pace of A, and A^T or B
// at half of it where rows are a multiple of 4 KiB apart, so that all go into the same sets of the first cache. There a
// block at a time is turned over or copied first. With AVX-512 nothing is lost.
class Rearranged {
 public:
  struct Factors {
    bool a, b;  // whether it pays to turn over blocks of A^T, to copy blocks of B
  };
  static Factors pays(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, int64_t ldb) {
    static const bool avx2 = !__builtin_cpu_supports("avx512f");
    if (!avx2 || k == 0) return {false, false};
    const bool same_sets = ldb % (4096 / static_cast<int64_t>(sizeof(float))) == 0;
    // A narrow C would be read and written more than it is summed up.
    return {transpose_a && !transpose_b && (n >= 96 || k <= kSum), !transpose_b && same_sets && m >= kFewRows};
  }

  void sgemm(Factors factors, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
             const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
    const int64_t most_rows = factors.a ? kRows : m, most_cols = factors.b ? kCols : n;
    for (int64_t col = 0; col < n; col += most_cols) {
      const int64_t cols = std::min(most_cols, n - col);
      for (int64_t at = 0; at < k; at += kSum) {
        const int64_t sum = std::min(kSum, k - at);
        const float* b_block = b + at * ldb + col;
        if (factors.b) copy(sum, cols, b_block, ldb, b_, kBStride);
        for (int64_t row = 0; row < m; row += most_rows) {
          const int64_t rows = std::min(most_rows, m - row);
          const float* a_block = a + (transpose_a ? at * lda + row : row * lda + at);
          if (factors.a) transpose(sum, rows, a_block, lda, a_, kAStride);
          cpu::sgemm(transpose_a && !factors.a, transpose_b, rows, cols, sum, alpha, factors.a ? a_ : a_block,
                     factors.a ? kAStride : lda, factors.b ? b_ : b_block, factors.b ? kBStride : ldb,
                     at == 0 ? beta : 1.0f, c + row * ldc + col, ldc);
        }
      }
    }
  }

 private:
  // Together in the second level of a cache; strides not a power of two, for the cache's sets.
  static constexpr int64_t kRows = 128, kSum = 256, kCols = 256, kAStride = kSum + 16, kBStride = kCols + 16;
  static constexpr int64_t kFewRows = 16;
  alignas(64) float a_[kRows * kAStride];  // 139 kB
  alignas(64) float b_[kSum * kBStride];   // 278 kB
};
#endif

}  // namespace

template <>
void gemm<float>(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                 int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const OneThread one_thread;
#ifdef __AVX2__
  if (const Rearranged::Factors factors = Rearranged::pays(transpose_a, transpose_b, m, n, k, ldb);
      factors.a || factors.b) {
    static thread_local std::unique_ptr<Rearranged> rearranged;  // only of threads that come here
    if (!rearranged) rearranged = std::make_unique_for_overwrite<Rearranged>();
    rearranged->sgemm(factors, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
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
