// SPDX-License-Identifier: Apache-2.0
// Products of a warp on tensor cores: sum (16 x 16, float) += a (16 x 16, bf16) b (16 x 16, bf16), out of tiles in
// shared memory whose rows are `stride` numbers apart and begin on 16 bytes. An odd number of 16 bytes a row keeps the
// loads free of bank conflicts. All lanes of a warp take part in each call.
#pragma once
#include "ops/cuda/mma.cuh"

namespace gf::cuda {

struct alignas(16) MmaOperand {
  unsigned x[4];
};

// Lane l has rows l / 4 and l / 4 + 8, columns 2 (l % 4), the one after it, and both of these + 8.
struct MmaSum {
  mma::C half[2] = {};  // left and right: row l / 4: [0], [1]; row l / 4 + 8: [2], [3]
};

// sizeof(U) bytes at once, aligned to as many.
template <class U>
__device__ U load_as(const BFloat16* from) {
#ifdef GF_CUDA_EMULATED
  U x;
  std::memcpy(&x, from, sizeof(U));
  return x;
#else
  return *reinterpret_cast<const U*>(from);
#endif
}
template <class U>
__device__ void store_as(BFloat16* to, const U& x) {
#ifdef GF_CUDA_EMULATED
  std::memcpy(to, &x, sizeof(U));
#else
  *reinterpret_cast<U*>(to) = x;
#endif
}

__device__ inline float low_half(unsigned two) {
  return __uint_as_float(two << 16);
}
__device__ inline float high_half(unsigned two) {
  return __uint_as_float(two & 0xffff0000u);
}
namespace mma_detail {

// Four matrices of 8 x 8: the first beside or under the second as `second_below` says, of what lies in memory. Lane l
// gets row l / 4, columns 2 (l % 4) and the next of each; of each one's transpose where kTransposed.
template <bool kTransposed>
__device__ inline MmaOperand load(const BFloat16* tile, int stride, bool second_below) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  MmaOperand to;
  const int down = second_below ? lane / 8 % 2 : lane / 16, right = second_below ? lane / 16 : lane / 8 % 2;
  mma::load_matrices<kTransposed>(tile + (8 * down + lane % 8) * stride + 8 * right, to.x);
  return to;
}

}  // namespace mma_detail

// Operands whose rows lie in rows of memory, or in columns. Rows of `a` are rows of the sum, rows of `b` are summed
// over.
__device__ inline MmaOperand load_a(const BFloat16* tile, int stride) {
  return mma_detail::load<false>(tile, stride, true);
}
__device__ inline MmaOperand load_a_transposed(const BFloat16* tile, int stride) {
  return mma_detail::load<true>(tile, stride, false);
}
__device__ inline MmaOperand load_b(const BFloat16* tile, int stride) {
  return mma_detail::load<true>(tile, stride, true);
}
__device__ inline MmaOperand load_b_transposed(const BFloat16* tile, int stride) {
  return mma_detail::load<false>(tile, stride, false);
}

__device__ inline void multiply_add(MmaSum& sum, const MmaOperand& a, const MmaOperand& b) {
#pragma unroll
  for (int right = 0; right < 2; ++right)
    mma::multiply_add({{a.x[0], a.x[1], a.x[2], a.x[3]}}, {{b.x[2 * right], b.x[2 * right + 1]}}, sum.half[right]);
}

}  // namespace gf::cuda
