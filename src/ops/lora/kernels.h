// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

namespace cpu {
template <class T>
void tanh_in_place(T* z, int64_t n);
template <class T>
void tanh_backward(const T* z, T* dz, int64_t n);  // dz *= 1 - z^2
}  // namespace cpu
namespace cuda {
template <class T>
void tanh_in_place(T* z, int64_t n, CudaStream);
template <class T>
void tanh_backward(const T* z, T* dz, int64_t n, CudaStream);
}  // namespace cuda

}  // namespace gf
