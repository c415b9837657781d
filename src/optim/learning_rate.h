// SPDX-License-Identifier: Apache-2.0
// The published schedules of learning rate and weight decay: pure functions of the step.
#pragma once
#include <cstdint>
#include <string>

namespace gf {

struct Schedule {
  enum class Decay : uint8_t { cos, linear, exp, one_minus_sqrt } decay = Decay::cos;
  double lr_init = 0, lr_final = 0;
  int64_t warmup_steps = 0;
  double wait = 0;  // share of exit_tokens before the decay begins
  int64_t tokens_per_step = 0;
  int64_t exit_tokens = 0;  // length of the whole run
  double weight_decay = 0, weight_decay_final = -1;

  static Decay decay_named(const std::string& name);  // cos, linear, exp, oneminussqrt; refuses others

  // From 0, after warm-up and wait, to 1 at exit_tokens; by the tokens seen before the step.
  double progress(int64_t step) const;
  double learning_rate(int64_t step) const;
  double weight_decay_at(int64_t step) const;  // goes to weight_decay_final exponentially where that is positive
  int64_t steps() const;                       // until exit_tokens are seen
};

}  // namespace gf
