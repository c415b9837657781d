// SPDX-License-Identifier: Apache-2.0
// Causal attention with several heads, by blocks of scores with a running softmax: the T x T matrix is never made,
// memory grows with T. Saves its inputs, its output and one number a query and head. Rotating or normalising the
// queries and keys is left to others.
#pragma once
#include "autodiff/tape.h"

namespace gf {

// alibi: adds -(i - j) * slope_h to the score of query i and key j; the slopes are 2^linspace(-8/H, -8, H).
enum class AttentionBias : uint8_t { none, alibi };

// y_i = sum_{j <= i} softmax_j(<q_i, k_j> / sqrt(N) + bias) v_j in each head.
// q, k, v: (B, T, num_heads * N) -> (B, T, num_heads * N)
Var attention(const Var& q_BTC, const Var& k_BTC, const Var& v_BTC, int64_t num_heads, AttentionBias bias = {});

}  // namespace gf
