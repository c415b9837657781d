// SPDX-License-Identifier: Apache-2.0
// Rows of a table, by token number.
#pragma once
#include "autodiff/tape.h"

namespace gf {

// y[..., :] = table[tokens[...], :].  tokens: i32, each in [0, V); table: (V, C), or
// bf16 for f32 rows. The gradient is added into the
// table's sum row by row, those of one token in the order of their positions; no second table is made.
Var embedding(const Tensor& tokens_BT, const Var& table_VC);

}  // namespace gf
