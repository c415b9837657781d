// SPDX-License-Identifier: Apache-2.0
#include "optim/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/text.h"

namespace gf {

Schedule::Decay Schedule::decay_named(const std::string& name) {
  if (name == "cos") return Decay::cos;
  if (name == "linear") return Decay::linear;
  if (name == "exp") return Decay::exp;
  if (name == "oneminussqrt") return Decay::one_minus_sqrt;
  refuse("train.lr_decay_type is " + cited(name), "one of cos, linear, exp, oneminussqrt");
}

double Schedule::progress(int64_t step) const {
  const double offset = static_cast<double>(warmup_steps * tokens_per_step) + wait * static_cast<double>(exit_tokens);
  const double seen = static_cast<double>(step * tokens_per_step);
  const double span = static_cast<double>(exit_tokens) - offset;
  if (span <= 0) return seen < offset ? 0 : 1;
  return std::clamp((seen - offset) / span, 0.0, 1.0);
}

double Schedule::learning_rate(int64_t step) const {
  const double p = progress(step);
  double lr = 0;
  switch (decay) {
    // A quarter of a cosine, as published: no half wave.
    case Decay::cos:
      lr = lr_final + (lr_init - lr_final) * std::cos(std::numbers::pi / 2 * p);
      break;
    case Decay::linear:
      lr = lr_init + (lr_final - lr_init) * p;
      break;
    case Decay::exp:
      lr = lr_init * std::exp(std::log(lr_final / lr_init) * p);
      break;
    case Decay::one_minus_sqrt:
      lr = lr_final + (lr_init - lr_final) * (1 - std::sqrt(p));
      break;
  }
  if (step < warmup_steps) lr *= 0.2 + 0.8 * static_cast<double>(step) / static_cast<double>(warmup_steps);
  return lr;
}

double Schedule::weight_decay_at(int64_t step) const {
  if (weight_decay_final <= 0 || weight_decay <= 0) return weight_decay;
  return weight_decay * std::exp(std::log(weight_decay_final / weight_decay) * progress(step));
}

int64_t Schedule::steps() const {
  return (exit_tokens + tokens_per_step - 1) / tokens_per_step;
}

}  // namespace gf
