// SPDX-License-Identifier: Apache-2.0
// Tensors of values that follow from a name and a place.
#pragma once
#include "base/random.h"
#include "tensor/tensor.h"

namespace gf {

template <class T>
Tensor hashed(const char* name, const Shape& shape, double range) {
  Tensor t = Tensor::empty(shape, dtype_of<T>, kCpu);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<T>()[i] = static_cast<T>(range * (2 * Random(3, name).unit(i) - 1));
  return t;
}

}  // namespace gf
