// SPDX-License-Identifier: Apache-2.0
// One AdamW update of a range of numbers: Loshchilov & Hutter 2019, bias-corrected, with decoupled decay.
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

// With g the gradient times grad_scale, and all of a step's scalars made in double:
//   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
//   p -= lr (m / bias1 / (sqrt(v / bias2) + eps) + decay p);   the gradient is set to zero for the next step
struct AdamWArgs {
  int64_t n;
  float *p, *g, *m, *v;
  BFloat16* rounded;  // becomes p too; null where nobody computes with it
  double grad_scale, lr, beta1, beta2, bias1, bias2, eps, decay;
};

namespace cpu {
void adamw(const AdamWArgs&);
}

}  // namespace gf
