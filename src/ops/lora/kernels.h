// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "base/parallel_for.h"
#include "tensor/on_device.h"

namespace gf {

template <class T>
struct LoraArgs {
  int64_t M, C, R, N;  // M rows
  const T *x, *a, *b;
  const T* base;  // M x N, or N values that stand in every row
  bool base_is_row;
  T* z;  // M x R: written by the forward pass, read by the backward pass
  T* y;
};

template <class T>
struct LoraBackwardArgs {
  int64_t M, C, R, N;
  const T *a, *b, *z, *dy;
  T* dz;              // of x a, before the tanh
  T* dx;              // replaced; null where not wanted
  bool dx_with_dy;    // dx is the gradient of x as the base too
  Inner<T>* dbase;    // a sum of N values to add into; null where not wanted
  Inner<T>* partial;  // scratch for it: lora_blocks(M).size() * N
};

inline Blocks lora_blocks(int64_t M) {
  return Blocks::of_length(M, 128);
}

namespace cpu {
template <class T>
void lora(const LoraArgs<T>&);
template <class T>
void lora_backward(const LoraBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void lora(const LoraArgs<T>&, CudaStream);
template <class T>
void lora_backward(const LoraBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
