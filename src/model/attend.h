// SPDX-License-Identifier: Apache-2.0
// Causal attention with the position encoding that the config asks for: rotary (a table), alibi, or none.
#pragma once
#include "model/config.h"
#include "model/past.h"
#include "ops/attention/attention.h"
#include "ops/rotary/rotary.h"

namespace gf {

inline AttentionBias bias_of(const ModelConfig& config) {
  return config.alibi ? AttentionBias::alibi : AttentionBias::none;
}

inline Var rotated(const Var& x_BTC, const ModelConfig& config, const RotaryTable* table, int64_t first) {
  return table ? rotary(x_BTC, config.num_heads(), *table, first) : x_BTC;
}

// Keys, as rotated, and values of one layer that a Past keeps.
class KeptKeysValues {
 public:
  KeptKeysValues(Past& past, const std::string& name, int64_t width)
      : keys_(past.growing(name + "keys", width)), values_(past.growing(name + "values", width)) {}
  int64_t size() const { return keys_.size(); }
  void append(const Var& keys, const Var& values) {
    keys_.append(keys.value());
    values_.append(values.value());
  }
  void add_to(RunningAttention& attention, int64_t begin, int64_t end) const {
    const Shape shape{1, end - begin, keys_.width()};
    attention.add(keys_.rows(begin, end).view(shape), values_.rows(begin, end).view(shape), begin);
  }

 private:
  GrowingRows &keys_, &values_;
};

// Attention of the rows that are read now, to which keys and values are still to be added.
inline RunningAttention start_attention(const Var& q, const ModelConfig& config, const RotaryTable* table,
                                        const Past& past) {
  const int64_t first = past.first_of(q.size(1));
  return {rotated(q, config, table, first), config.num_heads(), bias_of(config), first};
}

inline Var attend_kept(const Var& q, const KeptKeysValues& kept, const ModelConfig& config, const RotaryTable* table,
                       const Past& past) {
  RunningAttention attention = start_attention(q, config, table, past);
  for (int64_t begin = 0, end; begin < kept.size(); begin = end) {
    end = std::min(kept.size(), begin + GrowingRows::kBlock);
    kept.add_to(attention, begin, end);
  }
  return attention.result();
}

// Where a Past is read on, over all that it keeps under the layer's name.
inline Var attend(const Var& q, const Var& k, const Var& v, const ModelConfig& config, const RotaryTable* table,
                  Past* past = nullptr, const std::string& name = {}) {
  if (!past) {
    const int64_t H = config.num_heads();
    return attention(rotated(q, config, table, 0), rotated(k, config, table, 0), v, H, bias_of(config));
  }
  KeptKeysValues kept(*past, name, k.size(2));
  kept.append(rotated(k, config, table, past->first_of(k.size(1))), v);
  return attend_kept(q, kept, config, table, *past);
}

}  // namespace gf
