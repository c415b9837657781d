// SPDX-License-Identifier: Apache-2.0
// From logits to a token. Pure: the same logits, settings and random number give the same token.
#pragma once
#include <cstdint>
#include <span>

namespace gf {

// Applied in this order: the top_k likeliest tokens are kept; their logits are divided by the temperature and become
// probabilities; of those the likeliest are kept until together they have top_p; one of them is drawn. Among equal
// logits the lower token comes first.
struct Sampling {
  double temperature = 1;  // 0: always the likeliest token
  double top_p = 1;        // in (0, 1]; 1: all
  int64_t top_k = 0;       // 0: all
};

// Refuses settings out of range, by the names of the options.
void check(const Sampling&);

// `unit`, in [0, 1), says which token is drawn. Logits that are not finite are an error.
int32_t sample(std::span<const float> logits, const Sampling&, double unit);

}  // namespace gf
