// SPDX-License-Identifier: Apache-2.0
// Runs a schedule's passes over one step's microbatches, on the stages of this rank, and talks to the ranks below and
// above it.
#pragma once
#include <functional>
#include <map>
#include <span>
#include <tuple>

#include "parallel/communicator.h"
#include "parallel/hang_watch.h"
#include "parallel/schedule/lowering.h"
#include "parallel/stage.h"

namespace gf {

class Pipeline {
 public:
  // What crosses the cut below each stage, and above the last: activations, and which of them have gradients. The batch
  // size is that of the microbatches.
  struct Cuts {
    std::vector<BoundaryShape> forward, backward;
  };
  // `pieces` are this rank's stages: stage i * ranks + rank of all of them.
  Pipeline(std::vector<Stage*> pieces, Communicator& pipe, const ScheduleEntry&, Cuts, HangWatch* = nullptr);
  // The whole model on one rank.
  Pipeline(Stage&, Communicator& self, const ScheduleEntry&);

  // The passes of a step; a GPU may still be at them when this returns. The hooks are told when parameters are used and
  // when their gradients are complete.
  void run_passes(std::span<const Batch> microbatches, ParameterHooks&);
  // This rank's part of the step's loss: all of it on the rank of the last stage, else 0. Waits for a GPU.
  double take_loss();
  double run(std::span<const Batch> microbatches, ParameterHooks& hooks) {
    run_passes(microbatches, hooks);
    return take_loss();
  }

  bool reads_tokens() const;  // else batches need only say which samples they have
  bool has_head() const;      // and so the targets
  void set_loss_scale(double);
  // `batch(i)` for i in [0, count), all of them on every rank. Sums go to those given, in as many parts as these have.
  // The observer sees what each layer but the head writes.
  Stage::Sums evaluate(int64_t count, const std::function<Batch(int64_t)>& batch, ParameterHooks&,
                       const LayerStack::Observer& = {}, Stage::Sums = {});

 private:
  class StepHooks;
  using Key = std::tuple<bool, int, int>;  // forward?, piece, microbatch: of the pass that takes or gave it
  static Key key(const Compute& c) { return {c.is_forward(), c.piece, c.microbatch}; }
  struct Arriving {
    Boundary boundary;
    std::vector<std::unique_ptr<Work>> works;
  };

  void begin(const std::vector<Transfer>&, int64_t batch_size);
  void compute(const Compute&, std::span<const Batch>, ParameterHooks&);
  Boundary take(const Compute&);
  void give(const Compute&, Boundary);
  void look();
  void wait_until_sent();
  int num_stages() const { return pipe_.size() * static_cast<int>(pieces_.size()); }
  int stage_of(int piece) const { return piece * pipe_.size() + pipe_.rank(); }
  // What crosses the cut that `c` takes from, and the one that it gives to.
  const BoundaryShape& taken_by(const Compute& c) const {
    return c.is_forward() ? cuts_.forward[stage_of(c.piece)] : cuts_.backward[stage_of(c.piece) + 1];
  }
  const BoundaryShape& given_by(const Compute& c) const {
    return c.is_forward() ? cuts_.forward[stage_of(c.piece) + 1] : cuts_.backward[stage_of(c.piece)];
  }

  std::vector<Stage*> pieces_;
  Communicator& pipe_;
  const ScheduleEntry& schedule_;
  Cuts cuts_;
  HangWatch* watch_;
  std::map<size_t, Program> programs_;  // by the number of microbatches
  Arena arriving_memory_;
  std::map<Key, Arriving> arriving_;
  std::map<Key, Boundary> given_;  // not sent yet
  std::vector<std::unique_ptr<Work>> leaving_;
};

}  // namespace gf
