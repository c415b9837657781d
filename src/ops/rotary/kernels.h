// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

template <class T>
struct RotaryArgs {
  int64_t B, T_, H, N;
  bool back;        // turn by minus the angle
  const T* angles;  // T_ x N/2 x (cosine, sine), from the first row's position on
  const T* x;       // B x T_ x H x N
  T* y;             // may be x
};

namespace cpu {
template <class T>
void rotary(const RotaryArgs<T>&);
}
namespace cuda {
template <class T>
void rotary(const RotaryArgs<T>&, CudaStream);
}

}  // namespace gf
