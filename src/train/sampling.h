// SPDX-License-Identifier: Apache-2.0
// From logits to a token. Pure: the same logits, settings and random number give the same token.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "train/token_counts.h"

namespace gf {

// Applied in this order: the top_k likeliest tokens are kept; their logits are divided by the temperature and become
// probabilities; of those the likeliest are kept until together they have top_p, and those that have min_p times the
// largest; one of them is drawn. Among equal logits the lower token comes first.
struct Sampling {
  double temperature = 1;  // 0: always the likeliest token
  double top_p = 1;        // in (0, 1]; 1: all
  int64_t top_k = 0;       // 0: all
  double min_p = 0;        // in [0, 1]; 0: all
};

// Refuses settings out of range, by the names of the options.
void check(const Sampling&);

// Logits that are not finite are an error: of no use are the probabilities that they would make.
void check_finite(std::span<const float> logits);

// `unit`, in [0, 1), says which token is drawn. Checks that the logits are finite.
int32_t sample(std::span<const float> logits, const Sampling&, double unit);

// What makes tokens that were there before less likely, in the prompt, in the text or in what was read before these.
struct Penalties {
  static constexpr double kMost = 1e6;  // far beyond any logit, and far from where a logit would not be finite
  double repetition = 1;                // positive logits are divided by it, others multiplied; kMost or 1 / kMost
  double presence = 0;                  // taken from the logit; up to kMost, or below zero
  double frequency = 0;                 // likewise, for each time
};

// Refuses settings out of range, by the names of the options.
void check(const Penalties&);

class PenalisedLogits {
 public:
  PenalisedLogits(const Penalties& penalties, TokenCounts counts) : penalties_(penalties), counts_(std::move(counts)) {}
  void add(std::span<const int32_t> tokens) { counts_.add(tokens); }
  // They stay until the next call; the same ones where there are no penalties.
  std::span<const float> of(std::span<const float> logits);

 private:
  Penalties penalties_;
  TokenCounts counts_;
  std::vector<float> penalised_;
};

}  // namespace gf
