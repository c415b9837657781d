// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

namespace cpu {
template <class T>
void fill(T* x, T value, int64_t n);
template <class T>
void add(const T* a, const T* b, T* out, int64_t n);
template <class T>
void scale(T* x, T factor, int64_t n);
template <class T>
double sum_of_squares(const T* x, int64_t n);
}  // namespace cpu

namespace cuda {
template <class T>
void fill(T* x, T value, int64_t n, CudaStream);
template <class T>
void add(const T* a, const T* b, T* out, int64_t n, CudaStream);
template <class T>
void scale(T* x, T factor, int64_t n, CudaStream);
template <class T>
double sum_of_squares(const T* x, int64_t n, CudaStream);
void copy(const std::byte* from, std::byte* to, size_t bytes, CudaStream);
}  // namespace cuda

}  // namespace gf
