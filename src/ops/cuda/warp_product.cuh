// SPDX-License-Identifier: Apache-2.0
// Products of a warp on tensor cores: sum (16 x 16, float) += a (16 x 16, bf16) b (16 x 16, bf16), out of tiles in
// shared memory whose rows are `stride` numbers apart and begin on 16 bytes. An odd number of 16 bytes a row keeps the
// loads free of bank conflicts. All lanes of a warp take part in each call.
#pragma once
#include "ops/cuda/mma.cuh"

namespace gf::cuda {

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

__device__ inline void multiply_add(MmaSum& sum, const mma::A& a, const mma::TwoBs& b) {
#pragma unroll
  for (int right = 0; right < 2; ++right) mma::multiply_add(a, b.b[right], sum.half[right]);
}

}  // namespace gf::cuda
