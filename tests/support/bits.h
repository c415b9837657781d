// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstring>

#include "tensor/arithmetic.h"

namespace gf {

// Two tensors of one shape with the same bits; or both empty.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (!a || !b) return !a && !b;
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

inline Tensor clone(const Tensor& t) {
  Tensor out = Tensor::empty(t.shape(), t.dtype(), t.device());
  copy(t, out);
  return out;
}

}  // namespace gf
