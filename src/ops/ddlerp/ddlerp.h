// SPDX-License-Identifier: Apache-2.0
// The data-dependent linear interpolation of RWKV-6 (arXiv 2404.05892, "ddlerp"), with all its targets at once.
#pragma once
#include "autodiff/tape.h"

namespace gf {

struct Ddlerp {
  Var x;                     // (B, T, C): what the factors are made from
  Var mix_x;                 // C
  Var w1, w2;                // (C, n R), (n, R, C) or (R, C) where n = 1
  std::vector<Var> mixes;    // n of C values
  std::vector<Var> sources;  // n of (B, T, C): what is interpolated; empty: x for all
  Tensor before = {};        // (B, C): the rows before x's first; then x is the source, and there is no backward pass
};

// With s the source of target i, x_{-1} = s_{-1} = 0, or given:
//   z_t   = tanh((x_t + (x_{t-1} - x_t) mix_x) w1), cut into n parts of R
//   out_i = s_t + (s_{t-1} - s_t) (mix_i + z_i w2_i)
// -> n of (B, T, C). Keeps its inputs and z; the factors are made again in the backward pass.
std::vector<Var> ddlerp(const Ddlerp&);

}  // namespace gf
