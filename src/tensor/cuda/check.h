// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cuda_runtime.h>

#include "base/error.h"
#include "tensor/on_device.h"

namespace gf::cuda {

// Fails, saying what was tried and what CUDA says of it, unless that is success.
inline void check_cuda(cudaError_t result, const char* doing) {
  if (result != cudaSuccess)
    fail(cat("CUDA could not ", doing, ": ", cudaGetErrorString(result), " (", cudaGetErrorName(result), ")"));
}

// Of the GPU in use.
inline int gpu_attribute(cudaDeviceAttr what) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, what, gpu_in_use()), "tell what this GPU can do");
  return value;
}

}  // namespace gf::cuda
