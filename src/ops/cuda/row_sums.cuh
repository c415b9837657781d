// SPDX-License-Identifier: Apache-2.0
// Sums over rows in a fixed order, as in ops/cpu/row_sums.h.
#pragma once
#include "tensor/cuda/launch.cuh"

namespace gf::cuda {

// What is added up at once: null where there is nothing.
template <class T>
struct Sums {
  static constexpr int kMost = 8;
  T* sum[kMost];
};

// A block has 32 columns, one a lane, so that a warp reads 128 bytes and more at once; its 16 warps share the partial
// rows, or the few columns of a weight would wait for hundreds of loads one after the other.
template <class T>
__global__ void add_partial_rows_kernel(const T* partial, int64_t num_blocks, int64_t stride, int64_t C,
                                        const __grid_constant__ Sums<T> into) {
  constexpr unsigned kLanes = 32, kWarps = 16;
  __shared__ T of_warps[kWarps][kLanes];
  T* const sum = into.sum[blockIdx.y];
  if (!sum) return;
  const unsigned lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t c = int64_t{blockIdx.x} * kLanes + lane;
  const T* const column = partial + blockIdx.y * C + c;
  T mine = 0;
  for (int64_t b = warp; c < C && b < num_blocks; b += kWarps) mine += column[b * stride];
  of_warps[warp][lane] = mine;
  __syncthreads();
  if (warp > 0 || c >= C) return;
  T all = sum[c];
  for (unsigned w = 0; w < kWarps; ++w) all += of_warps[w][lane];
  sum[c] = all;
}

// into.sum[k][c] += partial[b * stride + k * C + c] over the blocks b, for c in [0, C) and k in [0, count).
template <class T>
void add_partial_rows(CudaStream stream, const T* partial, int64_t num_blocks, int64_t stride, int64_t C,
                      const Sums<T>& into, int count) {
  if (C == 0 || std::all_of(into.sum, into.sum + count, [](const T* sum) { return !sum; })) return;
  launch(stream, {blocks_of(C, 32), static_cast<unsigned>(count)}, 512, 0, add_partial_rows_kernel<T>, partial,
         num_blocks, stride, C, into);
}

// sum[c] += partial[b * stride + c] over the blocks b, for c in [0, C).
template <class T>
void add_partial_rows(CudaStream stream, const T* partial, int64_t num_blocks, int64_t stride, int64_t C, T* sum) {
  add_partial_rows(stream, partial, num_blocks, stride, C, Sums<T>{{sum}}, 1);
}

}  // namespace gf::cuda
