// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

template <class Real>
struct RotaryArgs {
  int64_t B, T, H, N;
  bool back;                  // turn by minus the angle
  const Inner<Real>* angles;  // T x N/2 x (cosine, sine), from the position of the first row on
  const Real* x;              // B x T x H x N
  Real* y;                    // may be x
};

namespace cpu {
template <class Real>
void rotary(const RotaryArgs<Real>&);
}
namespace cuda {
template <class Real>
void rotary(const RotaryArgs<Real>&, CudaStream);
}

}  // namespace gf
