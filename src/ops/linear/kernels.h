// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

// y = relu(x W^T)^2 over M x N.
template <class T>
struct LinearReluSquaredArgs {
  int64_t M, N, K;
  const T *x, *w;
  T* y;
};

// dy becomes d(x W^T) = 2 sqrt(y) dy, from which dx = d(x W^T) W.
template <class T>
struct LinearReluSquaredBackwardArgs {
  int64_t M, N, K;
  const T *w, *y;
  T* dy;
  T* dx;  // replaced; null where not wanted
};

namespace cpu {
template <class T>
void relu_squared(T* y, int64_t n);  // in place
template <class T>
void linear_relu_squared(const LinearReluSquaredArgs<T>&);
template <class T>
void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void linear_relu_squared(const LinearReluSquaredArgs<T>&, CudaStream);
template <class T>
void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
