// SPDX-License-Identifier: Apache-2.0
// Sums, gates, dropout and repetition: ops whose elements, or rows, stand alone. Shapes agree except where said.
#pragma once
#include <string>
#include <vector>

#include "autodiff/tape.h"

namespace gf {

Var add(const Var& a, const Var& b);                                  // a + b
Var swiglu(const Var& a, const Var& b);                               // a sigmoid(a) b
Var sigmoid_gate(const Var& r, const Var& v);                         // sigmoid(r) v
Var sigmoid_gate_residual(const Var& x, const Var& r, const Var& v);  // x + sigmoid(r) v

// What decides a dropout mask: nothing else does, so ranks, microbatches, recompute and restarts all see the same.
struct DropoutKey {
  uint64_t seed = 0;
  std::string name;                // of the place in the model
  std::vector<int64_t> samples_B;  // each sequence's number in the whole run
};

// Each element is set to zero with probability p in [0, 1), else divided by 1 - p. Element i of sequence b is kept
// by the random number that Random(seed, name) has at samples[b] * (elements a sequence) + i; the mask is not saved
// but made again. p = 0 returns x itself.  x: (B, ...)
Var dropout(const Var& x_BTC, double p, const DropoutKey&);

// The row, of any shape with as many elements as `out` has columns, in every row of `out`.
Var broadcast_rows(const Var& row_C, const Shape& out);

}  // namespace gf
