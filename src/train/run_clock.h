// SPDX-License-Identifier: Apache-2.0
// When a run is to save and when to end, by the clock: train.save_every_minutes and train.max_minutes. All times are
// seconds, moments those of seconds_now().
#pragma once
#include <cstdint>
#include <optional>

#include "train/config.h"

namespace gf {

class RunClock {
 public:
  // `begun`: when the process began, which may have taken long to load. `save_s`: the longest that a save is thought to
  // take; `validation_steps`: how many steps a validation is thought to take as long as.
  RunClock(const TrainConfig&, double begun, double now, double save_s, double validation_steps);

  // After each step: what it took, the validation not counted, and the step of the newest save that was begun, whatever
  // it was begun for.
  void stepped(double now, double step_s, int64_t save_begun);
  // What a validation took.
  void validated(double seconds) { validation_s_ = seconds; }
  // What a save took, without what it waited for the steps beside it.
  void saved(double seconds) { save_s_ = seconds; }

  // Both are asked at the end of a step.
  bool save_due(double now) const;
  // The next step and the saves after it may not fit any more, nor as many validations as are due at the ends of this
  // step and the next.
  bool over(double now, int validations) const;

 private:
  const double every_s_, most_s_, begun_, validation_steps_;  // 0: no such limit
  double step_s_ = 0, save_s_, save_began_;
  std::optional<double> validation_s_;
  int64_t save_begun_ = -1;
};

// Bytes over the slowest disk or network file system that a node is thought to have.
double longest_save(double bytes_of_node);

}  // namespace gf
