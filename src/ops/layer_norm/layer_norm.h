// SPDX-License-Identifier: Apache-2.0
// Layer normalisation over the last dimension C, alone or fused with the residual addition before it.
#pragma once
#include "autodiff/tape.h"

namespace gf {

inline constexpr double kLayerNormEps = 1e-5;

// y = (x - mean) / sqrt(variance + eps) * w + b.  x: (..., C), w, b: (C)
Var layer_norm(const Var& x, const Var& w_C, const Var& b_C, double eps = kLayerNormEps);

// sum = x + dx;  normed = layer_norm(sum).  One pass over memory instead of two, forward and backward.
struct ResidualNorm {
  Var sum, normed;
};
ResidualNorm add_layer_norm(const Var& x, const Var& dx, const Var& w_C, const Var& b_C, double eps = kLayerNormEps);

}  // namespace gf
