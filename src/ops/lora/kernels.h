// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ops/row_blocks.h"
#include "tensor/on_device.h"

namespace gf {

namespace cpu {
template <class T>
void tanh_in_place(T* z, int64_t n);
template <class T>
void tanh_backward(const T* z, T* dz, int64_t n);  // dz *= 1 - z^2
template <class T>
void repeat_row(const T* row, int64_t M, int64_t C, T* out);
// sum[c] += sum over rows; partial: row_blocks(M).size() * C
template <class T>
void add_rows(const T* x, int64_t M, int64_t C, T* partial, T* sum);
}  // namespace cpu
namespace cuda {
template <class T>
void tanh_in_place(T* z, int64_t n, CudaStream);
template <class T>
void tanh_backward(const T* z, T* dz, int64_t n, CudaStream);
template <class T>
void repeat_row(const T* row, int64_t M, int64_t C, T* out, CudaStream);
template <class T>
void add_rows(const T* x, int64_t M, int64_t C, T* partial, T* sum, CudaStream);
}  // namespace cuda

}  // namespace gf
