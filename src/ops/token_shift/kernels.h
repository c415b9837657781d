// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ops/row_blocks.h"
#include "tensor/on_device.h"

namespace gf {

inline constexpr int kMaxShiftOutputs = 5;

template <class T>
struct TokenShiftArgs {
  int64_t B, Tn, C;
  int count;
  bool toward_current;
  const T* x;
  const T* mix[kMaxShiftOutputs];  // C each
  const T* before;                 // B x C: the rows before the first; null: zeros
  T* out[kMaxShiftOutputs];
};

template <class T>
struct TokenShiftBackwardArgs {
  TokenShiftArgs<T> forward;         // out is not read
  const T* dout[kMaxShiftOutputs];   // null where no gradient came
  T* dx;                             // null where not wanted
  Inner<T>* dmix[kMaxShiftOutputs];  // sums to add into; null where not wanted
  Inner<T>* partial;                 // scratch: row_blocks(B Tn, C, the device).size() * count * C
};

namespace cpu {
template <class T>
void token_shift(const TokenShiftArgs<T>&);
template <class T>
void token_shift_backward(const TokenShiftBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void token_shift(const TokenShiftArgs<T>&, CudaStream);
template <class T>
void token_shift_backward(const TokenShiftBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
