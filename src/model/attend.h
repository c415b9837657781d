// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "model/config.h"
#include "ops/attention/attention.h"
#include "ops/rotary/rotary.h"

namespace gf {

// Causal attention with the position encoding that the config asks for: rotary (a table), alibi, or none.
inline Var attend(const Var& q, const Var& k, const Var& v, const ModelConfig& config,
                  const RotaryTable* rotary_table) {
  const int64_t H = config.num_heads();
  const AttentionBias bias = config.alibi ? AttentionBias::alibi : AttentionBias::none;
  if (!rotary_table) return attention(q, k, v, H, bias);
  return attention(rotary(q, H, *rotary_table), rotary(k, H, *rotary_table), v, H, bias);
}

}  // namespace gf
