// SPDX-License-Identifier: Apache-2.0
// A pipeline stage: a contiguous run of layers on one rank, and the tapes of the microbatches in flight. What one
// of them makes lives in an arena of its own, used again by the next.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "model/layer_stack.h"

namespace gf {

// The tensors at a cut between two stages, or their gradients; those that are not live there are empty.
struct Boundary {
  Tensor x_BTC, origin_BTC, compressed_BTZ;
};

struct StageOptions {
  Device device = kCpu;
  bool recompute = false;  // blocks run again in the backward pass
  double loss_scale = 1;   // 1 / (tokens of the optimizer step)
  double pull = 1e-4;      // on each position's largest logit, as published
  uint64_t seed = 0;       // of the dropout masks
};

class Stage {
 public:
  Stage(LayerStack& layers, StageOptions options) : layers_(layers), options_(options) {}

  LayerStack& layers() { return layers_; }
  // -> what the next stage reads; empty from the last one, which keeps the loss.
  Boundary forward(int microbatch, Batch, const Boundary& in);
  // Gradients of what forward() returned -> those of what it was given.
  Boundary backward(int microbatch, const Boundary& grad_out);
  // The losses of the passes since the last call, each scaled; a sum over a step is its mean loss.
  double take_loss();

  size_t activation_bytes() const;  // that all arenas have got so far

 private:
  struct InFlight {
    Batch batch;
    std::unique_ptr<Arena> arena;
    std::unique_ptr<Tape> tape;
    Flow in, out;
    Var loss;
  };
  Pass pass_of(const Batch& batch) const;
  std::unique_ptr<Arena> take_arena();

  LayerStack& layers_;
  StageOptions options_;
  std::map<int, InFlight> in_flight_;
  std::vector<std::unique_ptr<Arena>> idle_;
  double loss_ = 0;
};

}  // namespace gf
