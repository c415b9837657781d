// SPDX-License-Identifier: Apache-2.0
// The end of an Eagle or Finch time mixer: normalisation of each head, then the SiLU gate, in one pass over
// memory forward and one backward.
#pragma once
#include "autodiff/tape.h"

namespace gf {

// With C cut into `groups` heads, for each position and head alone:
//   z = pre_scale * y;  out = ((z - mean(z)) / sqrt(variance(z) + eps) * w + b) * g * sigmoid(g).
// y, g: (..., C), w, b: (C).  Finch: eps 1e-5 divisor^2;  Eagle: pre_scale 1 / divisor, eps 1e-5.
Var group_norm_silu_gate(const Var& y_BTC, const Var& g_BTC, int64_t groups, const Var& w_C, const Var& b_C, double eps,
                         double pre_scale = 1);

}  // namespace gf
