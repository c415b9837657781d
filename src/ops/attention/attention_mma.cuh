// SPDX-License-Identifier: Apache-2.0
// What the tensor cores' kernels share. A block has four warps, each with 16 rows of its own (queries, or keys where
// the gradients of keys are made): one tile of mma.sync high, so that what a row needs stays within four lanes. The
// other side's rows come in tiles of kTile through two stages of shared memory, one being copied while the other is
// used. Limits: tensor cores and shared memory's bandwidth alike, since each warp reads the whole tile for its 16 rows.
#pragma once
#include <limits>

#include "ops/attention/head.cuh"
#include "ops/attention/kernels_cuda.h"
#include "ops/cuda/async_copy.cuh"
#include "ops/cuda/mma.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/pack.cuh"

namespace gf::cuda::attention_detail {

inline constexpr int kMmaWarps = 4, kMmaThreads = kMmaWarps * kWarp, kWarpRows = 16, kBlockRows = kMmaWarps * kWarpRows;
inline constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.69314718055994531f;
inline constexpr float kNoScore = -std::numeric_limits<float>::infinity();

// Rows of kHead >= N numbers, the rest zero. The padding makes the rows of an ldmatrix begin in different banks.
template <int kHead>
inline constexpr int kRowStride = kHead + 8;

// Rows [first, first + kRows) of a head, of which those before `end` are there. They are there after a wait for copies
// and a barrier.
template <int kHead, int kRows>
__device__ void load_tile(const BFloat16* from, int64_t C, int N, int64_t first, int64_t end, bool packs,
                          BFloat16* to) {
  constexpr int kPacks = kHead / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kMmaThreads) {
    const int r = i / kPacks, c = i % kPacks * 8;
    const bool there = first + r < end;
    const BFloat16* const row = from + (there ? first + r : 0) * C;
    BFloat16* const at = to + r * kRowStride<kHead> + c;
    if (packs) {
      copy_async(at, row + (c < N ? c : 0), there && c < N);
    } else {
      for (int j = 0; j < 8; ++j) at[j] = there && c + j < N ? row[c + j] : BFloat16{0};
    }
  }
}

// c = a b^T: this warp's 16 rows of a by kTile rows of b, both kHead long.
template <int kHead, int kTile>
__device__ void multiply_transposed(const BFloat16* a, const BFloat16* b, mma::C (&c)[kTile / 8]) {
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) c[n] = {};
#pragma unroll
  for (int k = 0; k < kHead; k += 16) {
    const mma::A left = mma::load_a(a + k, kRowStride<kHead>);
#pragma unroll
    for (int n = 0; n < kTile; n += 16) {
      const mma::TwoBs right = mma::load_b_transposed(b + n * kRowStride<kHead> + k, kRowStride<kHead>);
      mma::multiply_add(left, right.b[0], c[n / 8]);
      mma::multiply_add(left, right.b[1], c[n / 8 + 1]);
    }
  }
}

// c += a b: this warp's 16 rows of a, kTile long and as bf16, by kTile rows of b.
template <int kHead, int kTile>
__device__ void multiply_add(const mma::C (&a)[kTile / 8], const BFloat16* b, mma::C (&c)[kHead / 8]) {
#pragma unroll
  for (int k = 0; k < kTile; k += 16) {
    // Where a product leaves its numbers is where the next one wants its left factor's.
    const mma::C &low = a[k / 8], &high = a[k / 8 + 1];
    const mma::A left{{mma::pair(low.x[0], low.x[1]), mma::pair(low.x[2], low.x[3]), mma::pair(high.x[0], high.x[1]),
                       mma::pair(high.x[2], high.x[3])}};
#pragma unroll
    for (int n = 0; n < kHead; n += 16) {
      const mma::TwoBs right = mma::load_b(b + k * kRowStride<kHead> + n, kRowStride<kHead>);
      mma::multiply_add(left, right.b[0], c[n / 8]);
      mma::multiply_add(left, right.b[1], c[n / 8 + 1]);
    }
  }
}

// This lane's rows, g and g + 8 of its warp's 16, and columns, 2t and 2t + 1 of each 8.
__device__ inline int first_row_of_lane() {
  return static_cast<int>(threadIdx.x) % kWarp / 4;
}
__device__ inline int first_column_of_lane() {
  return static_cast<int>(threadIdx.x) % 4 * 2;
}

// c's rows, times a factor each, to rows [first, first + 16) of a head, as far as they are before `end`.
template <int kHead>
__device__ void store_rows(const mma::C (&c)[kHead / 8], const float (&factor)[2], int64_t C, int N, int64_t first,
                           int64_t end, bool packs, BFloat16* to) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t row = first + first_row_of_lane() + 8 * r;
    if (row >= end) continue;
#pragma unroll
    for (int n = 0; n < kHead / 8; ++n) {
      const int column = n * 8 + first_column_of_lane();
      const float x = c[n].x[2 * r] * factor[r], y = c[n].x[2 * r + 1] * factor[r];
      BFloat16* const at = to + row * C + column;
      if (packs) {
        if (column < N) *reinterpret_cast<unsigned*>(at) = mma::pair(x, y);
      } else {
        if (column < N) at[0] = narrow<BFloat16>(x);
        if (column + 1 < N) at[1] = narrow<BFloat16>(y);
      }
    }
  }
}

// f(std::integral_constant<int, kHead>) for the smallest that holds a head.
template <class F>
void with_head(int64_t N, F&& f) {
  if (N <= 32) return f(std::integral_constant<int, 32>{});
  if (N <= 64) return f(std::integral_constant<int, 64>{});
  f(std::integral_constant<int, 128>{});
}

}  // namespace gf::cuda::attention_detail
