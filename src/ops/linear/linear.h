// SPDX-License-Identifier: Apache-2.0
// Bias-free linear layers. Legend: M rows (B*T), K inputs, N outputs.
#pragma once
#include "autodiff/tape.h"

namespace gf {

// y = x W^T.  x: (..., K), w: (N, K) -> (..., N)
Var linear(const Var& x, const Var& w_NK);

// y = relu(x W^T)^2, in one pass; saves only y.
Var linear_relu_squared(const Var& x, const Var& w_NK);

// y = [x, c] W^T without making the concatenation.  x: (..., K), c: (..., Z), w: (N, K + Z) -> (..., N)
Var linear_concat(const Var& x, const Var& c, const Var& w);

}  // namespace gf
