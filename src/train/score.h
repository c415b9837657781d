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

// How requests are gone about, each by its place among them.
struct ScorePlan {
  // Those of one context, which is read once, and its state gone on from for one after the other: where that saves more
  // than it costs, and those that are too long for a batch.
  std::vector<std::vector<size_t>> shared;
  std::vector<std::vector<size_t>> batches;  // side by side, those of like length
};
ScorePlan plan_scores(std::span<const ScoreRequest>);

// Of each request, in their order. Tokens must be of the model's vocabulary.
std::vector<Score> score(const LayerStack&, std::span<const ScoreRequest>);

// What that takes at most, beside the parameters.
struct ScoreBytes {
  size_t always, a_position;  // of the longest request
};
ScoreBytes bytes_of_scoring(const ModelConfig&);

}  // namespace gf
