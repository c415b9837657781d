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

// 2^x with an error of 2 units in the last place; numbers under 2^-126 are zero.
__device__ inline float fast_exp2(float x) {
#ifdef GF_CUDA_EMULATED
  return std::exp2(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

}  // namespace gf::cuda
