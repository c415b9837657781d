// SPDX-License-Identifier: Apache-2.0
// What several ranks gave, made one: the sum or the maximum of parts of n numbers that lie one after another, taken in
// their order.
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

template <class T>
struct CombineArgs {
  int64_t n, num_parts;
  bool max;
  const T* parts;
  T* out;  // may be the first part
};

namespace cpu {
template <class T>
void combine(const CombineArgs<T>&);
}
namespace cuda {
template <class T>
void combine(const CombineArgs<T>&, CudaStream);
}

}  // namespace gf
