// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/random.h"
#include "ops/row_blocks.h"
#include "tensor/on_device.h"

namespace gf {

template <class T>
struct SwigluArgs {
  int64_t n;
  const T *a, *b;
  T* out;
};

template <class T>
struct SwigluBackwardArgs {
  int64_t n;
  const T *a, *b, *dout;
  T *da, *db;  // db may be dout
};

template <class T>
struct SigmoidGateArgs {
  int64_t n;
  const T* x;  // added; null for none
  const T *r, *v;
  T* out;
};

template <class T>
struct SigmoidGateBackwardArgs {
  int64_t n;
  const T *r, *v, *dout;
  T *dr, *dv;  // dv may be dout
};

template <class T>
struct DropoutArgs {
  int64_t num_samples, per_sample;  // per_sample: elements
  const int64_t* samples;
  Random random;
  uint64_t drop_below;  // what is kept has bits no smaller
  Inner<T> factor;
  const T* x;
  T* y;  // may be x
};

template <class T>
struct BroadcastRowsArgs {
  int64_t M, C;
  const T* row;
  T* out;
};

template <class T>
struct BroadcastRowsBackwardArgs {
  int64_t M, C;
  const T* dout;
  Inner<T>* drow;     // a sum to add into
  Inner<T>* partial;  // scratch: row_blocks(M).size() * C
};

namespace cpu {
template <class T>
void swiglu(const SwigluArgs<T>&);
template <class T>
void swiglu_backward(const SwigluBackwardArgs<T>&);
template <class T>
void sigmoid_gate(const SigmoidGateArgs<T>&);
template <class T>
void sigmoid_gate_backward(const SigmoidGateBackwardArgs<T>&);
template <class T>
void dropout(const DropoutArgs<T>&);
template <class T>
void broadcast_rows(const BroadcastRowsArgs<T>&);
template <class T>
void broadcast_rows_backward(const BroadcastRowsBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void swiglu(const SwigluArgs<T>&, CudaStream);
template <class T>
void swiglu_backward(const SwigluBackwardArgs<T>&, CudaStream);
template <class T>
void sigmoid_gate(const SigmoidGateArgs<T>&, CudaStream);
template <class T>
void sigmoid_gate_backward(const SigmoidGateBackwardArgs<T>&, CudaStream);
template <class T>
void dropout(const DropoutArgs<T>&, CudaStream);
template <class T>
void broadcast_rows(const BroadcastRowsArgs<T>&, CudaStream);
template <class T>
void broadcast_rows_backward(const BroadcastRowsBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
