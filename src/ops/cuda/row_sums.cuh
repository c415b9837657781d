// SPDX-License-Identifier: Apache-2.0
// Sums over rows in a fixed order, as in ops/cpu/row_sums.h.
#pragma once
#include "tensor/cuda/launch.cuh"

namespace gf::cuda {

// sum[c] += partial[b * stride + c] over the blocks b, for c in [0, C).
template <class T>
void add_partial_rows(CudaStream stream, const T* partial, int64_t num_blocks, int64_t stride, int64_t C, T* sum) {
  each(stream, C, [=] __device__(int64_t c) {
    T all = sum[c];
    for (int64_t b = 0; b < num_blocks; ++b) all += partial[b * stride + c];
    sum[c] = all;
  });
}

}  // namespace gf::cuda
