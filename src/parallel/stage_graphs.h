// SPDX-License-Identifier: Apache-2.0
// Of stage.cpp: where a microbatch's passes run, and these passes as graphs, which read and write places that stay the
// same.
#pragma once
#include "parallel/stage.h"
#include "tensor/captured_work.h"
#include "tensor/side_stream.h"

namespace gf {

struct Stage::Graphs {
  Graphs(const Batch&, const Boundary& in, const Boundary& out, const Var& loss);
  void learn_backward(const Boundary& grad_out, const Boundary& grad_in);
  bool is_for(const Batch&) const;
  bool is_free() const;  // nobody reads what the last microbatch wrote
  void set(const Batch&, const Boundary& in);

  Batch batch, staged;  // on the GPU, and in memory that it copies from by itself
  StreamEvent copied;   // from there
  Boundary in, out, grad_out, grad_in;
  Tensor loss;
  CapturedWork forward, backward, backward_weights;  // the last where weight gradients came later
  bool ready = false;                                // a microbatch has gone all the way without
};

struct Stage::Slot {
  explicit Slot(Device device) : arena(device) {}
  Arena arena;
  std::unique_ptr<Graphs> graphs;
  bool is_free() const { return !graphs || graphs->is_free(); }
};

void copy(const Boundary& from, const Boundary& to);

}  // namespace gf
