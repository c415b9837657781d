// SPDX-License-Identifier: Apache-2.0
// Sums over the threads of a warp and of a block, always in the same order. Blocks are one-dimensional, of whole warps.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace gf::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// The sum over the warp, in each of its threads.
template <class T>
__device__ T warp_sum(T x) {
  for (int away = kWarp / 2; away > 0; away /= 2) x += __shfl_xor_sync(kAllLanes, x, away);
  return x;
}

template <class T>
__device__ T warp_max(T x) {
  for (int away = kWarp / 2; away > 0; away /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, away);
    x = x < other ? other : x;
  }
  return x;
}

// The sum over the block, in each of its threads; all call it.
template <class T>
__device__ T block_sum(T x) {
  __shared__ T of_warps[kWarp];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  x = warp_sum(x);
  __syncthreads();  // an earlier sum may still be read
  if (lane == 0) of_warps[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? of_warps[lane] : T(0));
}

}  // namespace gf::cuda
