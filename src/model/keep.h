// SPDX-License-Identifier: Apache-2.0
// What layers keep in a Past, by name. `past` may be null: then sequences begin here.
#pragma once
#include "autodiff/tape.h"
#include "model/config.h"
#include "model/past.h"

namespace gf {

// The row before x's first, for a token shift.
inline Tensor shift_before(Past* past, const std::string& name, const Var& x_BTC) {
  return past ? past->row_before(name + "shift", x_BTC) : Tensor();
}

// The last rows of one sequence, where nothing goes back. (1, T, C) -> (1, rows, C)
inline Var last_rows(const Var& x_BTC, int64_t rows) {
  const int64_t T = x_BTC.size(1), C = x_BTC.size(2);
  if (rows == T) return x_BTC;
  return x_BTC.tape().leaf(x_BTC.value().view({T, C}).slice(T - rows, T).view({1, rows, C}), false);
}

// For mixers above the expanded keys, to which a decoder gives the last rows alone: x and the row before it, which may
// be x's own first (Past::first_looked_back_to).
struct Shifted {
  Var x_BTC;
  Tensor before;
};
inline Shifted shifted(Past* past, const std::string& name, const Var& x_BTC) {
  const Tensor before = shift_before(past, name, x_BTC);
  if (!past || !past->first_looked_back_to()) return {x_BTC, before};
  const int64_t T = x_BTC.size(1), C = x_BTC.size(2);
  return {last_rows(x_BTC, T - 1), x_BTC.value().view({T, C}).slice(0, 1)};
}

// The state of a recurrence, changed by it.
inline Tensor wkv_state(Past* past, const std::string& name, const Var& like, const ModelConfig& config) {
  if (!past) return {};
  return past->state(name + "wkv", {1, config.num_heads(), config.head_size, config.head_size}, like.value().dtype());
}

// All that the keys and values of GOLD layers are made from: compressed keys, and tokens.
inline GrowingRows& kept_compressed(Past& past, const ModelConfig& config) {
  return past.growing("compressed", config.compressed_width());
}
inline constexpr const char* kKeptTokens = "tokens";
inline DType kept_token_dtype(const ModelConfig& config) {
  return config.vocab_size <= 65536 ? DType::u16 : DType::i32;
}
inline GrowingRows& kept_tokens(Past& past, const ModelConfig& config) {
  return past.growing(kKeptTokens, 1, kept_token_dtype(config));
}

// What a Past grows by with each position.
inline size_t bytes_a_position(const ModelConfig& config, const Past::Options& options) {
  size_t numbers = 0;
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    const std::string& mix = config.time_mix(layer);
    if (has_attention(mix) && (mix != "gold" || options.expanded)) numbers += static_cast<size_t>(2 * config.dim_att);
  }
  if (!config.has_time_mix("gold")) return numbers * size_of(options.cache);
  numbers += static_cast<size_t>(config.compressed_width());
  return numbers * size_of(options.cache) + size_of(kept_token_dtype(config));
}

}  // namespace gf
