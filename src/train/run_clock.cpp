// SPDX-License-Identifier: Apache-2.0
#include "train/run_clock.h"

#include <algorithm>

namespace gf {
namespace {

// Of the time there is: what is only thought must not leave none for steps.
constexpr double kMostShare = 0.125;

}  // namespace

RunClock::RunClock(const TrainConfig& t, double begun, double now, double save_s, double validation_steps)
    : every_s_(60 * t.save_every_minutes),
      most_s_(60 * t.max_minutes),
      begun_(begun),
      validation_steps_(validation_steps),
      save_s_(most_s_ > 0 ? std::min(save_s, kMostShare * most_s_) : save_s),
      save_began_(now) {}

void RunClock::stepped(double now, double step_s, int64_t save_begun) {
  step_s_ = step_s;
  if (save_begun == save_begun_) return;
  save_begun_ = save_begun;
  save_began_ = now;
}

bool RunClock::save_due(double now) const {
  return every_s_ > 0 && now - save_began_ >= every_s_;
}

// The next step, the save that is under way at its end, which comes to its own end first, and the last one; and a step
// to spare. A validation takes much longer than a step, and alike each time.
bool RunClock::over(double now, int validations) const {
  constexpr double kSpare = 1.25;
  const double validation_s = validation_s_.value_or(std::min(validation_steps_ * step_s_, kMostShare * most_s_));
  return most_s_ > 0 && now - begun_ + 2 * (step_s_ + save_s_) + kSpare * validations * validation_s >= most_s_;
}

double longest_save(double bytes_of_node) {
  constexpr double kBytesPerSecond = 1e8;
  return bytes_of_node / kBytesPerSecond;
}

}  // namespace gf
