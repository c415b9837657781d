// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ops/row_blocks.h"
#include "tensor/on_device.h"

namespace gf {

template <class T>
struct LayerNormArgs {
  int64_t M, C;
  Inner<T> eps;
  const T *x, *dx;  // dx: added to x first; null for none
  const T *w, *b;
  T* sum;  // x + dx; null where dx is
  T* y;
  Inner<T>*mean, *rstd;  // mean, rstd: M each, kept for the backward pass
};

template <class T>
struct LayerNormBackwardArgs {
  int64_t M, C;
  const T *x, *w;  // x: what was normalised
  const Inner<T>*mean, *rstd;
  const T* dy;
  const T* dsum;      // gradient that reached x directly; null for none
  T* dx;              // dsum + gradient through the norm
  Inner<T>*dw, *db;   // sums to add into; null where not wanted
  Inner<T>* partial;  // scratch: 2 * row_blocks(M, C, the device).size() * C
};

namespace cpu {
template <class T>
void layer_norm(const LayerNormArgs<T>&);
template <class T>
void layer_norm_backward(const LayerNormBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void layer_norm(const LayerNormArgs<T>&, CudaStream);
template <class T>
void layer_norm_backward(const LayerNormBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
