// SPDX-License-Identifier: Apache-2.0
// Log-likelihoods of continuations, as benchmarks ask for them.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "model/layer_stack.h"

namespace gf {

struct ScoreRequest {
  std::vector<int32_t> context;       // empty: a document begins
  std::vector<int32_t> continuation;  // at least one
};

struct Score {
  double logprob = 0;  // of the whole continuation, in nats
  bool greedy = true;  // each of its tokens is the likeliest
  int64_t tokens = 0;
};

// Of each request, in their order. A context that several share is read once, and its state is gone on from; the others
// are run together, those of like length at a time. Tokens must be of the model's vocabulary.
std::vector<Score> score(const LayerStack&, std::span<const ScoreRequest>);

}  // namespace gf
