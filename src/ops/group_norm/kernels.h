// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ops/row_blocks.h"
#include "tensor/on_device.h"

namespace gf {

// M positions of H heads of N channels.
template <class T>
struct GroupNormArgs {
  int64_t M, H, N;
  Inner<T> eps, pre_scale;
  const T *y, *g, *w, *b;
  T* out;
  Inner<T>*mean, *rstd;  // mean, rstd: M H each, of y pre_scale, kept for the backward pass
};

template <class T>
struct GroupNormBackwardArgs {
  int64_t M, H, N;
  Inner<T> pre_scale;
  const T *y, *g, *w, *b;
  const Inner<T>*mean, *rstd;
  const T* dout;
  T *dy, *dg;         // dg may be dout
  Inner<T>*dw, *db;   // sums to add into; null where not wanted
  Inner<T>* partial;  // scratch: 2 * row_blocks(M, H N, the device).size() * H N
};

namespace cpu {
template <class T>
void group_norm_silu_gate(const GroupNormArgs<T>&);
template <class T>
void group_norm_silu_gate_backward(const GroupNormBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void group_norm_silu_gate(const GroupNormArgs<T>&, CudaStream);
template <class T>
void group_norm_silu_gate_backward(const GroupNormBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
