// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

template <class T>
struct RmsNormArgs {
  int64_t M, C;
  Inner<T> eps;
  const T* x;
  T* y;
  Inner<T>* root;  // root: M, the root mean squares without eps
};

template <class T>
struct RmsNormBackwardArgs {
  int64_t M, C;
  Inner<T> eps;
  const T *x, *dy;
  const Inner<T>* root;
  T* dx;  // may be dy
};

namespace cpu {
template <class T>
void rms_norm(const RmsNormArgs<T>&);
template <class T>
void rms_norm_backward(const RmsNormBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void rms_norm(const RmsNormArgs<T>&, CudaStream);
template <class T>
void rms_norm_backward(const RmsNormBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
