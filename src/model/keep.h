// SPDX-License-Identifier: Apache-2.0
// What layers keep in a Past, by name. `past` may be null: then sequences begin here.
#pragma once
#include "autodiff/tape.h"
#include "model/config.h"
#include "model/past.h"

namespace gf {

// The row before x's first, for a token shift.
inline Tensor shift_before(Past* past, const std::string& name, const Var& x_BTC) {
  return past ? past->row_before(name + "shift", x_BTC.value()) : Tensor();
}

// The state of a recurrence, changed by it.
inline Tensor wkv_state(Past* past, const std::string& name, const Var& like, const ModelConfig& config) {
  if (!past) return {};
  return past->state(name + "wkv", {1, config.num_heads(), config.head_size, config.head_size}, like.value().dtype());
}

// The compressed keys, all that GOLD layers need of the lower stack.
inline GrowingRows& kept_compressed(Past& past, const ModelConfig& config) {
  return past.growing("compressed", config.compressed_width());
}

}  // namespace gf
