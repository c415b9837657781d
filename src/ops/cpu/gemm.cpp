// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <bit>

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

}  // namespace

template <>
void gemm<float>(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                 int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const OneThread one_thread;
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (status == dnnl_out_of_memory)
    fail(cat("oneDNN cannot get the memory for a product of ", m, "x", n, "x", k),
         "a smaller --train.micro_bsz with more --train.accumulate_grad_batches, or --train.grad_cp 1");
  GF_CHECK(status == dnnl_success, "dnnl_sgemm ", m, "x", n, "x", k, ": status ", status);
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
