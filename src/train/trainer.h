// SPDX-License-Identifier: Apache-2.0
// The story of a training run: token shard -> stage -> loss -> gradients -> sharded optimizer -> checkpoint.
#pragma once
#include <exception>
#include <functional>

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
  // One optimizer step, with the validation and the save that are due at its end. The rank is asked for its wishes when
  // the passes are done, so that what came to it meanwhile counts.
  StepMetrics step(const std::function<Wishes()>&);
  bool stop_agreed() const { return stop_agreed_; }                  // by the ranks, at the end of the last step
  int validations_within(int64_t steps) const;                       // that are due at the ends of the next steps
  double validation_seconds() const { return validation_seconds_; }  // of the last one
  // The state as it is, where no checkpoint has it yet. The save goes on beside the steps that follow.
  void save();
  void finish_saving();                                  // returns when the last save is done
  int64_t save_begun() const { return save_begun_; }     // the newest save's step; -1: none
  double save_seconds() const { return save_seconds_; }  // of the last one that came to its end; the slowest rank's
  double save_bytes() const;                             // of this rank
  // Whether the state is whole: after an error of all ranks it can still be saved. Not within a step, and not where a
  // save has failed.
  bool whole() const { return whole_; }
  void check_metrics() const;  // throws, on all ranks, where the last line could not be written

 private:
  double agree(double own_loss, const Wishes&);
  int64_t agree_on_targets(std::span<const Batch> microbatches) const;
  std::vector<ShardView> state() const;
  void note_saved();
  void validate(StepMetrics&);
  void write_metrics(const StepMetrics&);
  std::vector<Batch> next_microbatches();
  bool validation_due(const Place&) const;
  bool save_due() const;
  bool epoch_ended(const Place&, int64_t epochs) const;
  void learn(StepMetrics&, std::span<const Batch> microbatches);
  [[noreturn]] void explain_bad_step(const std::string& what, std::span<const Batch> microbatches);
  std::string first_bad_layer(std::span<const Batch> microbatches) const;
  std::string last_bad_gradient() const;

  Run& run_;
  bool stop_agreed_ = false, save_agreed_ = false;
  int64_t save_begun_ = -1;
  double save_seconds_ = 0, validation_seconds_ = 0;
  bool whole_ = true;
  std::exception_ptr metrics_error_;  // to be told where all ranks can be
};

}  // namespace gf
