// SPDX-License-Identifier: Apache-2.0
// From logits to a token. Pure: the same logits, settings and random number give the same token.
#pragma once
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

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

// `unit`, in [0, 1), says which token is drawn. Logits that are not finite are an error.
int32_t sample(std::span<const float> logits, const Sampling&, double unit);

// What makes tokens that were there before less likely.
struct Penalties {
  double repetition = 1;  // of the prompt or the text: positive logits are divided by it, others multiplied
  double presence = 0;    // of the text: taken from the logit
  double frequency = 0;   // of the text: taken from the logit for each time
};

void check(const Penalties&);

class PenalisedLogits {
 public:
  PenalisedLogits(const Penalties& penalties, std::span<const int32_t> prompt);
  void add(int32_t token);  // to the text
  // They stay until the next call; the same ones where there are no penalties.
  std::span<const float> of(std::span<const float> logits);

 private:
  Penalties penalties_;
  std::unordered_map<int32_t, int64_t> times_;  // in the text; 0 for those of the prompt alone
  std::vector<float> penalised_;
};

}  // namespace gf
