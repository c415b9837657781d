// SPDX-License-Identifier: Apache-2.0
// What kernels over rows of C numbers share: how many numbers a thread takes at once, and sums over a row.
#pragma once
#include <initializer_list>
#include <type_traits>

#include "tensor/cuda/block.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"
#include "tensor/cuda/pack.cuh"

namespace gf::cuda {

inline unsigned whole_warps(int64_t threads) {
  return static_cast<unsigned>((threads + kWarp - 1) / kWarp * kWarp);
}

// Whether all pointers and rows of C numbers allow loads of kCount numbers.
template <int kCount, class T>
bool allows(int64_t C, std::initializer_list<const T*> pointers) {
  return C % kCount == 0 &&
         std::all_of(pointers.begin(), pointers.end(), [](const T* p) { return is_aligned(p, sizeof(T) * kCount); });
}

// Calls f(constant), its value being how many numbers a thread shall take at once: what fills kBytes (16 or 8) if rows
// are long enough to keep `threads` busy so, else half of that, and one where rows or pointers allow nothing else.
template <int kBytes, class T, class F>
void with_pack(int64_t C, int64_t threads, std::initializer_list<const T*> pointers, F&& f) {
  constexpr int kWide = kBytes / static_cast<int>(sizeof(T)), kHalf = kWide / 2;
  if constexpr (kWide > 1)
    if (C >= threads * kWide && allows<kWide>(C, pointers)) return f(std::integral_constant<int, kWide>{});
  if constexpr (kHalf > 1)
    if (allows<kHalf>(C, pointers)) return f(std::integral_constant<int, kHalf>{});
  f(std::integral_constant<int, 1>{});
}

// Sums of kCount numbers a thread over its block, each thread getting all, with one barrier: calls must alternate
// between the two `turn`s. Who writes for a turn again has passed the other turn's barrier, which all reached after
// reading.
template <class T, int kCount>
struct RowSums {
  T of_warps[2][kCount][kWarp];

  __device__ void add_up(T (&x)[kCount], unsigned turn) {
    const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      x[i] = warp_sum(x[i]);
      if (lane == 0) of_warps[turn][i][warp] = x[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = warp_sum(lane < warps ? of_warps[turn][i][lane] : T(0));
  }
  __device__ T add_up(T x, unsigned turn) {
    T all[1] = {x};
    add_up(all, turn);
    return all[0];
  }
};

}  // namespace gf::cuda
