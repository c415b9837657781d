// SPDX-License-Identifier: Apache-2.0
#include "train/spike_detector.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace gf {
namespace {

// NaN has a sign that means nothing.
std::string text_of(double value) {
  return std::isnan(value) ? "nan" : std::isinf(value) ? "infinite" : fmt::format("{:.6g}", value);
}

struct Moments {
  double mean = 0, deviation = 0;
};

template <class Value>
Moments moments_of(const std::deque<SpikeDetector::Step>& steps, Value&& value) {
  const auto count = static_cast<double>(steps.size());
  Moments m;
  for (const auto& s : steps) m.mean += value(s) / count;
  double squares = 0;
  for (const auto& s : steps) squares += (value(s) - m.mean) * (value(s) - m.mean);
  m.deviation = std::sqrt(squares / (count - 1));
  return m;
}

}  // namespace

std::string SpikeDetector::judge(const Step& step) const {
  if (!std::isfinite(step.loss)) return fmt::format("the loss is {}", text_of(step.loss));
  if (!std::isfinite(step.norm))
    return fmt::format("the loss is {}, the gradient's norm {}", text_of(step.loss), text_of(step.norm));
  if (z_ <= 0 || std::ssize(steps_) < std::min(kLeast, window_)) return {};
  // Where losses hardly differ, as at the very start, a rise of a part in a hundred is none.
  constexpr double kLeastRise = 0.01;
  const auto above = [&](double value, const Moments& m, double rise) {
    return value - m.mean > std::max(z_ * m.deviation, rise);
  };
  const Moments losses = moments_of(steps_, [](const Step& s) { return s.loss; });
  if (above(step.loss, losses, kLeastRise * std::fabs(losses.mean)))
    return fmt::format("the loss is {}, more than {} standard deviations of {} above the mean {} of the last {} steps",
                       text_of(step.loss), z_, text_of(losses.deviation), text_of(losses.mean), steps_.size());
  const auto log_norm = [](const Step& s) { return std::log(std::max(s.norm, 1e-30)); };
  const Moments norms = moments_of(steps_, log_norm);
  if (above(log_norm(step), norms, kLeastRise))
    return fmt::format(
        "the gradient's norm is {}, more than {} standard deviations (each a factor of {}) above the mean {} of the "
        "last {} steps",
        text_of(step.norm), z_, text_of(std::exp(norms.deviation)), text_of(std::exp(norms.mean)), steps_.size());
  return {};
}

void SpikeDetector::add(const Step& step) {
  if (z_ <= 0) return;
  steps_.push_back(step);
  if (std::ssize(steps_) > window_) steps_.pop_front();
}

}  // namespace gf
