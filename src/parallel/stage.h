// SPDX-License-Identifier: Apache-2.0
// A pipeline stage: a contiguous run of layers on one rank, and the tapes of the microbatches in flight. What one
// of them makes lives in an arena of its own, used again by the next.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "model/layer_stack.h"
#include "tensor/pinned_memory.h"

namespace gf {

// The tensors at a cut between two stages, or their gradients; those that are not live there are empty.
struct Boundary {
  Tensor x_BTC, origin_BTC, compressed_BTZ;
};

// Which fields of a Boundary are live, and their shapes for batches of B sequences of T tokens.
struct BoundaryShape {
  Fields fields = 0;
  int64_t B = 0, T = 0, C = 0, Z = 0;
  DType dtype = DType::f32;
  Boundary empty(Arena&) const;
};
// Those that are not empty, in one order.
std::vector<Tensor> tensors_of(const Boundary&);

struct StageOptions {
  Device device = kCpu;
  DType dtype = DType::f32;                   // of activations and their gradients
  bool recompute = false;                     // blocks run again in the backward pass
  double loss_scale = 1;                      // 1 / (targets of the optimizer step)
  double pull = 1e-4;                         // on each position's largest logit, as published
  uint64_t seed = 0;                          // of the dropout masks
  Fields gives = kX | kOrigin | kCompressed;  // what the next stage reads
  // Whose gradients the stage below wants; none, where nothing is trained there.
  Fields gradients = kX | kOrigin | kCompressed;
  // On a GPU: captures each pass once and then launches it as a whole. The numbers in a pass may not change from one
  // microbatch to the next, so no dropout, and set_loss_scale() must not be called.
  bool graphs = false;
};

class Stage {
 public:
  Stage(LayerStack& layers, StageOptions options);
  ~Stage();

  LayerStack& layers() { return layers_; }
  Device device() const { return options_.device; }
  // Whether anything is trained here or below; else there is no backward pass, and forward() keeps nothing for one.
  bool goes_back() const { return options_.gradients != 0 || layers_.trains_any(); }
  // -> what the next stage reads; empty from the last one, which keeps the loss. The microbatch is in flight until its
  // backward pass, where there is one.
  Boundary forward(int microbatch, const Batch&, const Boundary& in, ParameterHooks* = nullptr);
  // Gradients of what forward() returned -> those of what it was given. With WeightGradients::later the microbatch
  // stays in flight until backward_weights().
  Boundary backward(int microbatch, const Boundary& grad_out, WeightGradients = WeightGradients::now);
  void backward_weights(int microbatch);
  // Of the passes from here on: where a mask decides how many targets a step has.
  void set_loss_scale(double scale) { options_.loss_scale = scale; }
  // The losses of the passes since the last call, each scaled; a sum over a step is its mean loss.
  double take_loss();

  // Without gradients and dropout. The last stage adds to `sum` instead of returning anything.
  struct Sum {
    double loss = 0;  // of positions with a target, unscaled
    int64_t correct = 0, tokens = 0;
    void add(double position_loss, int64_t position_correct) {
      loss += position_loss, correct += position_correct, ++tokens;
    }
  };
  struct Sums : Sum {
    std::vector<Sum> by_position;  // of so many equal parts of a sequence, where they are wanted
  };
  Boundary evaluate(Arena&, const Batch&, const Boundary& in, Sums& sum, ParameterHooks* = nullptr,
                    const LayerStack::Observer& = {});

  size_t activation_bytes() const;  // that all arenas have got so far
  // Whether a message that was given out holds up what the next forward pass could use, so that it would take more.
  bool is_held_up() const;

 private:
  struct Graphs;
  struct Slot;  // what a microbatch in flight has to itself, and the next one after it
  struct InFlight {
    Batch batch;
    std::unique_ptr<Slot> slot;
    std::unique_ptr<Tape> tape;
    Flow in, out;
    Var loss;
    bool captured = false;  // its passes are graphs
    ParameterHooks* hooks = nullptr;
  };
  Batch batch_on(const Batch&, Arena&) const;
  Boundary run_forward(InFlight&, const Boundary& in, ParameterHooks*);
  Boundary run_backward(InFlight&, const Boundary& grad_out, WeightGradients);
  Boundary launch_forward(InFlight&, const Batch&, const Boundary& in, ParameterHooks*);
  Boundary launch_backward(InFlight&, const Boundary& grad_out, WeightGradients);
  void launch_backward_weights(InFlight&);
  bool may_capture(const InFlight&, int microbatch, const Batch&, ParameterHooks*) const;
  void keep_loss(const Tensor& loss);
  Pass pass_of(const Batch& batch) const;
  Flow flow_of(Tape&, const Boundary&) const;
  Boundary given(const Flow&) const;
  std::unique_ptr<Slot> take_slot();
  void end_flight(int microbatch);
  InFlight& in_flight(int microbatch, const char* pass);

  LayerStack& layers_;
  StageOptions options_;
  std::map<int, InFlight> in_flight_;
  std::vector<std::unique_ptr<Slot>> idle_;
  double loss_ = 0;
  // On a GPU losses wait there until the step asks for them, so that no pass has to wait for the device.
  Tensor losses_;
  int64_t num_losses_ = 0;
  PinnedMemory pinned_;
};

}  // namespace gf
