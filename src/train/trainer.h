// SPDX-License-Identifier: Apache-2.0
// The story of a training run: token shard -> stage -> loss -> gradients -> sharded optimizer -> checkpoint.
#pragma once
#include "train/build.h"

namespace gf {

class Trainer {
 public:
  explicit Trainer(Run& run) : run_(run) {}

  bool done() const { return run_.place.step >= run_.plan.last_step; }
  // What a rank would like; if one does, all do it.
  struct Wishes {
    bool stop = false, save = false;
  };
  // One optimizer step, with the validation and the save that are due at its end.
  StepMetrics step(const Wishes&);
  bool stop_agreed() const { return stop_agreed_; }  // by the ranks, at the end of the last step
  // The state as it is, where no checkpoint has it yet. The save goes on beside the steps that follow.
  void save();
  void finish_saving();  // returns when the last save is done

 private:
  double agree(double own_loss, const Wishes&);
  int64_t agree_on_targets(std::span<const Batch> microbatches) const;
  void note_saved();
  std::vector<Batch> next_microbatches();
  bool validation_due() const;
  bool save_due() const;
  bool epoch_ended(int64_t epochs) const;
  void learn(StepMetrics&, std::span<const Batch> microbatches);
  [[noreturn]] void explain_bad_step(const std::string& what, std::span<const Batch> microbatches);
  int64_t largest(int64_t own) const;
  std::string first_bad_layer(std::span<const Batch> microbatches) const;
  std::string last_bad_gradient() const;

  Run& run_;
  int64_t skipped_ = 0;  // in a row
  bool stop_agreed_ = false, save_agreed_ = false;
  int64_t save_begun_ = -1;  // the last save's step
};

}  // namespace gf
