// SPDX-License-Identifier: Apache-2.0
// Rows of a table, by token number.
#pragma once
#include "autodiff/tape.h"

namespace gf {

// y[..., :] = table[tokens[...], :].  tokens: i32, each in [0, V); table: (V, C), on a CPU also bf16 for f32 rows. The
// gradient is added into the table's sum row by row, those of one token in an order that its positions tell; no second
// table is made. A token outside the table is an error on a CPU, and makes rows of NaN on a GPU.
Var embedding(const Tensor& tokens_BT, const Var& table_VC);

}  // namespace gf
