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

// The same where keys and values come block by block, in any order, and are not kept: for reading on. No backward pass.
class RunningAttention {
 public:
  // `first_query`: the position of the first.
  RunningAttention(const Var& q_BTC, int64_t num_heads, AttentionBias, int64_t first_query);
  // k, v: (B, T of their own, C), from the position `first_key` on; each query sees those up to its own.
  void add(const Tensor& k_BTC, const Tensor& v_BTC, int64_t first_key);
  Var result() const;

 private:
  Var q_;
  int64_t num_heads_;
  AttentionBias bias_;
  int64_t first_query_;
  Tensor y_, lse_;
  bool started_ = false;
};

}  // namespace gf
