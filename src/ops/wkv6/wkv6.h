// SPDX-License-Identifier: Apache-2.0
// The recurrence of RWKV-5 and RWKV-6 (Peng et al. 2024, arXiv 2404.05892; Finch-C2: arXiv 2407.12077).
#pragma once
#include <optional>

#include "autodiff/tape.h"

namespace gf {

inline constexpr int64_t kMaxWkvHeadSize = 1024;  // N

struct Wkv6 {
  Var r, k, v;             // (B, T, C), C = num_heads * N
  Var w;                   // (B, T, C): the decay of a step is exp(-exp(w)), in (0, 1)
  std::optional<Var> u;    // (num_heads, N): the bonus of the current token; Finch and Eagle
  std::optional<Var> add;  // (B, T, C): added to the result; Finch-C2's second value
  int64_t num_heads;
  bool scale_keys = false;  // k (1 - decay) in place of k; Finch-C2
  // (B, num_heads, N, N), key channels by value channels: S_0, replaced by the last S; empty: zeros, and the last one
  // is not kept. With it there is no backward pass.
  Tensor state = {};
};

// Per head, with S_0 = 0 or given (N x N), k' = scale_keys ? k (1 - decay) : k:
//   y_t = r_t S_{t-1} + (r_t . (u k'_t)) v_t + add_t
//   S_t = diag(decay_t) S_{t-1} + k'_t^T v_t
// Any T, any N up to that, any w: no step divides by a decay or lets a product of decays grow. Keeps only its inputs.
Var wkv6(const Wkv6&);

}  // namespace gf
