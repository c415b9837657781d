// SPDX-License-Identifier: Apache-2.0
// A block makes a tile of C from tiles of both factors in shared memory, summed in order, one number after another.
#include "ops/cuda/gemm_plain.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"

namespace gf::cuda {
namespace {

constexpr int kTile = 32, kThreads = 256, kRowsAtOnce = kThreads / kTile;

template <class T>
struct Matrix {
  const T* x;
  bool transposed;  // op(x) is its transpose
  int64_t rows, cols, stride;

  // Of op(x), from (row, col) on, zeros beyond it. Neighbours in memory go to neighbouring threads.
  __device__ void load(Inner<T> (&tile)[kTile][kTile + 1], int64_t row, int64_t col) const {
    const int fast = static_cast<int>(threadIdx.x) % kTile;
    for (int slow = static_cast<int>(threadIdx.x) / kTile; slow < kTile; slow += kRowsAtOnce) {
      const int i = transposed ? fast : slow, j = transposed ? slow : fast;
      const bool there = row + i < rows && col + j < cols;
      const int64_t at = transposed ? (col + j) * stride + row + i : (row + i) * stride + col + j;
      tile[i][j] = there ? wide(x[at]) : 0;
    }
  }
};

template <class In, class Out>
__global__ void __launch_bounds__(kThreads) product_kernel(Matrix<In> a, Matrix<In> b, GemmStrides apart,
                                                           Inner<In> alpha, Inner<In> beta, Out* c, int64_t ldc) {
  __shared__ Inner<In> left[kTile][kTile + 1], right[kTile][kTile + 1];
  const int64_t batch = blockIdx.z, first_row = int64_t{blockIdx.y} * kTile, first_col = int64_t{blockIdx.x} * kTile;
  a.x += batch * apart.a, b.x += batch * apart.b, c += batch * apart.c;
  const int col = static_cast<int>(threadIdx.x) % kTile, row = static_cast<int>(threadIdx.x) / kTile;
  Inner<In> sum[kTile / kRowsAtOnce] = {};
  for (int64_t k = 0; k < a.cols; k += kTile) {
    a.load(left, first_row, k);
    b.load(right, k, first_col);
    __syncthreads();
    for (int i = 0; i < kTile; ++i)
#pragma unroll
      for (int r = 0; r < kTile / kRowsAtOnce; ++r) sum[r] += left[row + r * kRowsAtOnce][i] * right[i][col];
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < kTile / kRowsAtOnce; ++r) {
    const int64_t i = first_row + row + r * kRowsAtOnce, j = first_col + col;
    if (i >= a.rows || j >= b.cols) continue;
    Out& to = c[i * ldc + j];
    to = narrow<Out>(alpha * sum[r] + (beta == 0 ? 0 : beta * wide(to)));
  }
}

}  // namespace

template <class In, class Out>
void plain_gemm(CudaStream stream, const GemmShape& s, const GemmStrides& batch, Inner<In> alpha, const In* a,
                const In* b, Inner<In> beta, Out* c) {
  launch(stream, {blocks_of(s.n, kTile), blocks_of(s.m, kTile), static_cast<unsigned>(batch.count)}, kThreads, 0,
         product_kernel<In, Out>, Matrix<In>{a, s.transpose_a, s.m, s.k, s.lda},
         Matrix<In>{b, s.transpose_b, s.k, s.n, s.ldb}, batch, alpha, beta, c, s.ldc);
}

template void plain_gemm(CudaStream, const GemmShape&, const GemmStrides&, float, const float*, const float*, float,
                         float*);
template void plain_gemm(CudaStream, const GemmShape&, const GemmStrides&, double, const double*, const double*, double,
                         double*);
template void plain_gemm(CudaStream, const GemmShape&, const GemmStrides&, float, const BFloat16*, const BFloat16*,
                         float, BFloat16*);
template void plain_gemm(CudaStream, const GemmShape&, const GemmStrides&, float, const BFloat16*, const BFloat16*,
                         float, float*);

}  // namespace gf::cuda
