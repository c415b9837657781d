// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

// y = relu(x W^T)^2 over M x N, and its backward pass d(x W^T) = 2 sqrt(y) dy, in place over dy.
template <class T>
struct LinearReluSquaredArgs {
  int64_t M, N, K;
  const T *x, *w;
  T* y;
};

namespace cpu {
template <class T>
void linear_relu_squared(const LinearReluSquaredArgs<T>&);
template <class T>
void relu_squared_backward(const T* y, T* dy, int64_t n);
}  // namespace cpu
namespace cuda {
template <class T>
void linear_relu_squared(const LinearReluSquaredArgs<T>&, CudaStream);
template <class T>
void relu_squared_backward(const T* y, T* dy, int64_t n, CudaStream);
}  // namespace cuda

}  // namespace gf
