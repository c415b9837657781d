// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

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

// Each tile packs its share of A and of B anew, which costs least where tiles are square and large; but there must be
// a few for the threads to share, as long as they are large enough to be worth a task.
GemmTiles GemmTiles::of(int64_t m, int64_t n) {
  constexpr int64_t kRows = 384, kCols = 512, kMultiple = 16, kFew = 4, kMany = 8;
  int64_t row_tiles = std::max<int64_t>(1, (m + kRows / 2) / kRows),
          col_tiles = std::max<int64_t>(1, (n + kCols / 2) / kCols);
  while (row_tiles * col_tiles < kMany) {
    const int64_t least = row_tiles * col_tiles < kFew ? 64 : 128, rows = m / row_tiles, cols = n / col_tiles;
    if (std::max(rows, cols) < 2 * least) break;
    ++(rows >= cols ? row_tiles : col_tiles);
  }
  const auto length = [](int64_t size, int64_t tiles) {
    return ((size + tiles - 1) / tiles + kMultiple - 1) / kMultiple * kMultiple;
  };
  return {length(m, row_tiles), length(n, col_tiles)};
}

}  // namespace gf::cpu
