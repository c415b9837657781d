// SPDX-License-Identifier: Apache-2.0
// Division by the root mean square of the last dimension, without a weight: what GOLD applies to the embedded
// input and to the key cache.
#pragma once
#include "autodiff/tape.h"

namespace gf {

// y = x / (||x|| / sqrt(C) + eps).  x: (..., C). eps is added to the root, as published. A row of zeros stays
// zero; its norm's gradient is taken as zero.
Var rms_norm(const Var& x, double eps = 1e-8);

}  // namespace gf
