// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/parallel_for.h"
#include "tensor/types.h"

namespace gf {

// How kernels cut M rows where each block leaves a partial sum: the same cut on any number of threads. Ops size
// their scratch by it.
inline Blocks row_blocks(int64_t M) {
  return Blocks::at_most(M, 64, 16);
}

// The same for rows of C numbers on a GPU: two blocks and more for each of some 132 multiprocessors, and more where
// rows are short; partial sums stay within some 1.1 million numbers each.
inline Blocks gpu_row_blocks(int64_t M, int64_t C) {
  return Blocks::at_most(M, 264 * std::clamp<int64_t>(2048 / std::max<int64_t>(C, 1), 1, 4), 4);
}

// On a device, or on the meta device that stands for it.
inline Blocks row_blocks(int64_t M, int64_t C, Device device) {
  return is_like_gpu(device) ? gpu_row_blocks(M, C) : row_blocks(M);
}

}  // namespace gf
