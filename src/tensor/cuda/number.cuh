// SPDX-License-Identifier: Apache-2.0
// Numbers as kernels read, compute and write them: bf16 in memory is float inside.
#pragma once
#include <cuda_bf16.h>

#include "tensor/types.h"

namespace gf::cuda {

__device__ inline float wide(float x) {
  return x;
}
__device__ inline double wide(double x) {
  return x;
}
__device__ inline float wide(BFloat16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

// x as a T, rounded to the nearest where T is narrower.
template <class T>
__device__ T narrow(Inner<T> x) {
  return x;
}
template <>
__device__ inline BFloat16 narrow<BFloat16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

}  // namespace gf::cuda
