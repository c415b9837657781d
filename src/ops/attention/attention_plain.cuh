// SPDX-License-Identifier: Apache-2.0
// What the plain kernels share. A block has four warps, each with kRows rows of its own (queries, or keys where the
// gradients of keys are made), and goes over tiles of 32 rows of the other side, one a lane. All numbers are Inner<T>
// in shared memory; scores never leave the chip. These kernels are for float and double, and for heads that the tensor
// cores' kernels do not take: they are limited by the FMA units and by shared memory's bandwidth.
#pragma once
#include <limits>
#include <type_traits>

#include "ops/attention/head.cuh"
#include "ops/attention/kernels_cuda.h"
#include "tensor/cuda/block.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"
#include "tensor/cuda/pack.cuh"

namespace gf::cuda::attention_detail {

inline constexpr int kWarps = 4, kTile = kWarp, kThreads = kWarps * kWarp;

// kColumns: of a row's sums, lane + 32 m with m < kColumns are in a lane's registers. kStride: from a row in shared
// memory to the next; a lane reads 16 bytes of its own row at once, and the padding spreads these over all banks.
template <class T, int kColumns>
struct Plain {
  using Real = Inner<T>;
  static constexpr int kHead = kColumns * kWarp, kVector = 16 / sizeof(Real), kStride = kHead + kVector;
  static constexpr int kRows = kColumns > 4 || sizeof(Real) > 4 ? 4 : 8, kBlockRows = kRows * kWarps;
};

// Rows [first, first + rows) of a head, of which those before `end` are there, to shared memory; the others and the
// columns beyond N as zeros.
template <class P, class T>
__device__ void load_rows(const T* from, int64_t C, int N, int64_t first, int64_t end, int rows, Inner<T>* to) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * P::kHead; i += kThreads) {
    const int r = i / P::kHead, c = i % P::kHead;
    const bool there = first + r < end && c < N;
    to[r * P::kStride + c] = there ? wide(from[(first + r) * C + c]) : Inner<T>(0);
  }
}

// product[r] = <row r of a, row `lane` of b>.
template <class P, class Real = typename P::Real>
__device__ void multiply_rows(const Real* a, const Real* b, int N, Real (&product)[P::kRows]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < P::kRows; ++r) product[r] = 0;
  for (int c = 0; c < N; c += P::kVector) {  // beyond N both are zero
    const auto y = load<P::kVector>(b + lane * P::kStride + c);
#pragma unroll
    for (int r = 0; r < P::kRows; ++r) {
      const auto x = load<P::kVector>(a + r * P::kStride + c);
#pragma unroll
      for (int i = 0; i < P::kVector; ++i) product[r] += x.x[i] * y.x[i];
    }
  }
}

// sum[r][m] += sum_j weights[r][j] b[j][lane + 32 m]; weights: kRows x kTile of this warp.
template <class P, int kColumns, class Real = typename P::Real>
__device__ void add_products(const Real* weights, const Real* b, Real (&sum)[P::kRows][kColumns]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int j = 0; j < kTile; j += P::kVector) {
    Real y[P::kVector][kColumns];
#pragma unroll
    for (int i = 0; i < P::kVector; ++i)
#pragma unroll
      for (int m = 0; m < kColumns; ++m) y[i][m] = b[(j + i) * P::kStride + lane + m * kWarp];
#pragma unroll
    for (int r = 0; r < P::kRows; ++r) {
      const auto w = load<P::kVector>(weights + r * kTile + j);
#pragma unroll
      for (int i = 0; i < P::kVector; ++i)
#pragma unroll
        for (int m = 0; m < kColumns; ++m) sum[r][m] += w.x[i] * y[i][m];
    }
  }
}

// Each of this warp's rows to memory, where it and its columns are there.
template <class P, int kColumns, class T, class Real = typename P::Real>
__device__ void store_rows(const Real (&sum)[P::kRows][kColumns], int64_t C, int N, int64_t first, int64_t end, T* to) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < P::kRows; ++r)
#pragma unroll
    for (int m = 0; m < kColumns; ++m)
      if (const int c = lane + m * kWarp; first + r < end && c < N) to[(first + r) * C + c] = narrow<T>(sum[r][m]);
}

// f(std::integral_constant<int, kColumns>) for the fewest columns of 32 that hold a head.
template <class F>
void with_columns(int64_t N, F&& f) {
  if (N <= 32) return f(std::integral_constant<int, 1>{});
  if (N <= 64) return f(std::integral_constant<int, 2>{});
  if (N <= 128) return f(std::integral_constant<int, 4>{});
  f(std::integral_constant<int, 8>{});
}

}  // namespace gf::cuda::attention_detail
