// SPDX-License-Identifier: Apache-2.0
// The record of one microbatch's pass through one stage. Ops append nodes in execution order; backward() walks
// them last to first. The tape does all accumulating of gradients, so no op can forget to, and it checks that
// each op gave every gradient exactly once. A value lives as long as someone holds its Var or an op saved it.
#pragma once
#include <functional>
#include <initializer_list>
#include <span>
#include <vector>

#include "base/trace.h"
#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace gf {

class Tape;

// A value and its place on a tape.
class Var {
 public:
  Var() = default;
  explicit operator bool() const { return tape_ != nullptr; }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  int64_t size(int i) const { return value_.size(i); }
  Tape& tape() const { return *tape_; }
  bool needs_grad() const;
  bool same_as(const Var& other) const { return tape_ == other.tape_ && id_ == other.id_; }

 private:
  friend class Tape;
  friend class Grads;
  Var(Tape* tape, uint32_t id, Tensor value) : tape_(tape), id_(id), value_(std::move(value)) {}
  Tape* tape_ = nullptr;
  uint32_t id_ = 0;
  Tensor value_;
};

// Adds a gradient into `sum`, in place.
using AddGradient = std::function<void(const Tensor& sum)>;

enum class WeightGradients : uint8_t { now, later };

// A weight's gradient that is still to be taken.
struct PutOff {
  const char* op;  // null: nothing to time
  std::function<void()> run;
};

// What an op's backward pass may touch.
class Grads {
 public:
  bool wants(int input) const;  // false: skip the work
  // For every wanted input, exactly one of the three:
  void add(int input, Tensor grad);
  // The sum to add the gradient into, now: for small weights whose gradient is a by-product. Empty if not wanted.
  Tensor sum(int input);
  // For weights: where they are parameters, the product that gives their gradient may run after all input gradients
  // have left the stage.
  void later(int input, AddGradient);
  // For an op that runs a tape of its own (recompute): what other ops have given this input so far, to go on adding to
  // in the order of those ops and then give back with add(); empty where there is nothing, or only a sum to add into.
  Tensor take(int input);
  // Likewise: whether weight gradients are wanted now, and those put off.
  WeightGradients weights() const;
  void later(std::vector<PutOff>);

  Grads(Tape& tape, std::span<const uint32_t> inputs, const char* op);
  void check_complete() const;

 private:
  void give(int input);
  Tape& tape_;
  std::span<const uint32_t> inputs_;
  const char* op_;
  std::vector<bool> given_;
};

// grad_outputs[i] is the gradient of the op's output i: empty where none reached it. The op may move it out.
// What is put off with Grads::later must not touch the tape, which may be gone by then.
using Backward = std::function<void(std::span<Tensor> grad_outputs, Grads&)>;

class Tape {
 public:
  enum class Mode : uint8_t { record, evaluate };  // evaluate: nothing is saved, there is no backward pass
  explicit Tape(Arena& arena, Mode mode = Mode::record) : arena_(arena), mode_(mode) {}
  // Of a pass within the outer tape's: in its arena, and with the same look between its ops.
  Tape(const Tape& outer, Mode mode) : arena_(outer.arena_), mode_(mode), between_ops_(outer.between_ops_) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  Arena& arena() { return arena_; }
  bool recording() const { return mode_ == Mode::record; }
  Tensor empty(Shape shape, DType dtype) { return arena_.empty(shape, dtype); }
  Tensor writable(Tensor&&);  // the same tensor where nobody else holds it, else a copy

  Var leaf(Tensor value, bool needs_grad);
  // A leaf whose gradient is added into `grad_sum`; an empty grad_sum: it needs none (frozen).
  Var parameter(Tensor value, Tensor grad_sum);

  // Appends an op. Keeps `backward` only if recording and an input needs a gradient (or `always`).
  std::vector<Var> record(const char* op, std::span<const Var> inputs, std::vector<Tensor> outputs, Backward backward,
                          bool always = false);
  Var record(const char* op, std::initializer_list<Var> inputs, Tensor output, Backward backward);

  // A place on the tape: `passed` is called when the backward pass gets there, all that was recorded after it being
  // done; `weights_passed` likewise, by the taking of the weight gradients, which may come later.
  void mark(std::function<void()> passed, std::function<void()> weights_passed);
  // Called between any two ops, forward and backward: a moment to look after what goes on beside them.
  void between_ops(std::function<void()> look) { between_ops_ = std::move(look); }

  // Where the gradient of a leaf is summed up, for an op that can only give it in its forward pass.
  Tensor grad_sum(const Var& leaf);

  struct Seed {
    Var output;
    Tensor grad;
  };
  // Runs each node once, last to first, and releases what it saved. Seeds that nobody else holds die on the way too.
  void backward(std::vector<Seed>, WeightGradients = WeightGradients::now);
  void backward_weights();  // what `later` put off, in the order it was put off
  bool has_put_off() const { return !put_off_.empty(); }
  std::vector<PutOff> take_backward_weights() { return std::move(put_off_); }
  Tensor grad(const Var& leaf) const;  // empty where none reached it

 private:
  friend class Grads;
  friend class Var;
  struct Node {
    const char* op;
    std::vector<uint32_t> inputs;
    uint32_t first_output, num_outputs;
    Backward backward;
  };
  struct Slot {
    bool needs_grad = false;
    bool is_sum = false;        // grad is a sum that others hold too: add into it, never replace it
    bool is_parameter = false;  // its gradient may come after the backward pass
    Tensor grad;
    Shape shape;
    DType dtype = DType::f32;
  };
  uint32_t new_slot(const Tensor& value, bool needs_grad);
  void accumulate(uint32_t id, Tensor grad, const char* op);
  Tensor sum_of(uint32_t id);
  void run(const Node&);
  Trace::What backward_span(const Node&) const;

  Arena& arena_;
  Mode mode_;
  WeightGradients weights_ = WeightGradients::now;
  std::vector<Node> nodes_;
  std::vector<Slot> slots_;
  std::vector<PutOff> put_off_;
  std::function<void()> between_ops_;
};

}  // namespace gf
