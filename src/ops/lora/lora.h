// SPDX-License-Identifier: Apache-2.0
// Low-rank maps, base + tanh(x A) B. R: rank.
#pragma once
#include "autodiff/tape.h"

namespace gf {

// base: a vector of N values that stands in every row (lora of the papers), or (..., N) added row by row
// (loradapt: base = x).  x: (..., C), a: (C, R), b: (R, N) -> (..., N)
Var lora(const Var& x, const Var& a_CR, const Var& b_RN, const Var& base);

}  // namespace gf
