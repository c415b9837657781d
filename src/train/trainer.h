// SPDX-License-Identifier: Apache-2.0
// The story of a training run: token shard -> stage -> loss -> gradients -> sharded optimizer -> checkpoint.
#pragma once
#include "train/build.h"

namespace gf {

class Trainer {
 public:
  explicit Trainer(Run& run) : run_(run) {}

  bool done() const { return run_.place.step >= run_.plan.last_step; }
  // One optimizer step, with the validation and the save that are due at its end.
  StepMetrics step();
  // The state as it is; nothing where the newest checkpoint already has it.
  void save();
  int64_t saved_step() const { return saved_step_; }     // of the last save; -1: none
  double save_seconds() const { return save_seconds_; }  // that it took

 private:
  std::vector<Batch> next_microbatches();
  bool validation_due() const;
  bool save_due() const;
  bool epoch_ended(int64_t epochs) const;
  [[noreturn]] void explain_bad_step(double loss, double norm, std::span<const Batch> microbatches);
  std::string first_bad_layer(const Batch&) const;

  Run& run_;
  int64_t saved_step_ = -1;
  double save_seconds_ = 0;
};

}  // namespace gf
