// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cuda_runtime.h>

#include "base/error.h"

namespace gf::cuda {

// Fails, saying what was tried and what CUDA says of it, unless that is success.
inline void check_cuda(cudaError_t result, const char* doing) {
  if (result != cudaSuccess)
    fail(cat("CUDA could not ", doing, ": ", cudaGetErrorString(result), " (", cudaGetErrorName(result), ")"));
}

}  // namespace gf::cuda
