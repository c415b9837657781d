// SPDX-License-Identifier: Apache-2.0
#include "autodiff/tape.h"

#include <utility>

#include "tensor/arithmetic.h"

namespace gf {

bool Var::needs_grad() const { return tape_->slots_[id_].needs_grad; }

Grads::Grads(Tape& tape, std::span<const uint32_t> inputs, const char* op)
    : tape_(tape), inputs_(inputs), op_(op), given_(inputs.size()) {}

bool Grads::wants(int input) const { return tape_.slots_[inputs_[input]].needs_grad; }

void Grads::give(int input) {
  GF_CHECK(wants(input), op_, " gave a gradient for input ", input, ", which needs none");
  GF_CHECK(!given_[input], op_, " gave the gradient of input ", input, " twice");
  given_[input] = true;
}

void Grads::add(int input, Tensor grad) {
  give(input);
  tape_.accumulate(inputs_[input], std::move(grad), op_);
}

Tensor Grads::sum(int input) {
  if (!wants(input)) return {};
  give(input);
  return tape_.sum_of(inputs_[input]);
}

void Grads::later(int input, AddGradient add_gradient) {
  give(input);
  const Tensor sum = tape_.sum_of(inputs_[input]);
  if (tape_.weights_ == WeightGradients::now) return add_gradient(sum);
  tape_.put_off_.push_back([sum, add_gradient = std::move(add_gradient)] { add_gradient(sum); });
}

Tensor Grads::take(int input) {
  auto& slot = tape_.slots_[inputs_[input]];
  return slot.is_sum ? Tensor() : std::exchange(slot.grad, {});
}

WeightGradients Grads::weights() const { return tape_.weights_; }

void Grads::later(std::vector<std::function<void()>> work) {
  for (auto& w : work) tape_.put_off_.push_back(std::move(w));
}

void Grads::check_complete() const {
  for (size_t i = 0; i < given_.size(); ++i)
    GF_CHECK(given_[i] || !wants(static_cast<int>(i)), op_, " gave no gradient for input ", i);
}

Tensor Tape::writable(Tensor&& t) {
  if (t.sole_owner()) return std::move(t);
  Tensor own = empty(t.shape(), t.dtype());
  copy(t, own);
  return own;
}

uint32_t Tape::new_slot(const Tensor& value, bool needs_grad) {
  slots_.push_back({needs_grad && recording(), false, {}, value.shape(), value.dtype()});
  return static_cast<uint32_t>(slots_.size() - 1);
}

Var Tape::leaf(Tensor value, bool needs_grad, Tensor grad) {
  const uint32_t id = new_slot(value, needs_grad);
  slots_[id].grad = std::move(grad);
  return {this, id, std::move(value)};
}

Var Tape::parameter(Tensor value, Tensor grad_sum) {
  Var v = leaf(std::move(value), static_cast<bool>(grad_sum));
  Slot& slot = slots_[v.id_];
  if (slot.needs_grad) {
    check_shape("parameter", "the sum of gradients", grad_sum, slot.shape);
    slot.grad = std::move(grad_sum);
    slot.is_sum = true;
  }
  return v;
}

std::vector<Var> Tape::record(const char* op, std::span<const Var> inputs, std::vector<Tensor> outputs, Backward backward,
                              bool always) {
  std::vector<uint32_t> ids;
  bool needed = always;
  for (const Var& v : inputs) {
    GF_CHECK(v.tape_ == this, op, ": an input belongs to another tape");
    ids.push_back(v.id_);
    needed = needed || slots_[v.id_].needs_grad;
  }
  needed = needed && recording();
  const auto first = static_cast<uint32_t>(slots_.size());
  const auto count = static_cast<uint32_t>(outputs.size());
  std::vector<Var> vars;
  for (Tensor& t : outputs) {
    const uint32_t id = new_slot(t, needed);
    vars.push_back({this, id, std::move(t)});
  }
  if (needed) nodes_.push_back({op, std::move(ids), first, count, std::move(backward)});
  return vars;
}

Var Tape::record(const char* op, std::initializer_list<Var> inputs, Tensor output, Backward backward) {
  std::vector<Tensor> outputs;
  outputs.push_back(std::move(output));
  return record(op, std::span(inputs.begin(), inputs.size()), std::move(outputs), std::move(backward))[0];
}

void Tape::accumulate(uint32_t id, Tensor grad, const char* op) {
  Slot& slot = slots_[id];
  check_shape(op, "a gradient", grad, slot.shape);
  if (slot.is_sum || (slot.grad && slot.grad.sole_owner())) {
    add_to(slot.grad, grad);
  } else if (!slot.grad) {
    slot.grad = std::move(grad);
  } else if (grad.sole_owner()) {
    add_to(grad, slot.grad);
    slot.grad = std::move(grad);
  } else {
    Tensor sum = empty(slot.shape, slot.dtype);
    add(slot.grad, grad, sum);
    slot.grad = std::move(sum);
  }
}

Tensor Tape::sum_of(uint32_t id) {
  Slot& slot = slots_[id];
  if (slot.is_sum) return slot.grad;
  Tensor sum = empty(slot.shape, slot.dtype);
  if (slot.grad)
    copy(slot.grad, sum);
  else
    fill_zero(sum);
  slot.grad = sum;
  slot.is_sum = true;
  return sum;
}

Tensor Tape::grad_sum(const Var& leaf) {
  GF_CHECK(leaf.needs_grad(), "grad_sum of a value that needs no gradient");
  return sum_of(leaf.id_);
}

void Tape::run(const Node& node) {
  std::vector<Tensor> grad_outputs(node.num_outputs);
  bool any = false;
  for (uint32_t i = 0; i < node.num_outputs; ++i) {
    grad_outputs[i] = std::move(slots_[node.first_output + i].grad);
    slots_[node.first_output + i].grad = {};
    any = any || grad_outputs[i];
  }
  if (!any) return;
  Grads grads(*this, node.inputs, node.op);
  node.backward(grad_outputs, grads);
  grads.check_complete();
}

void Tape::backward(std::span<const Seed> seeds, WeightGradients weights) {
  GF_CHECK(recording(), "backward of a tape that does not record");
  weights_ = weights;
  for (const Seed& s : seeds)
    if (s.output.needs_grad()) accumulate(s.output.id_, s.grad, "seed");
  while (!nodes_.empty()) {
    const Node node = std::move(nodes_.back());
    nodes_.pop_back();
    run(node);
  }
  if (weights == WeightGradients::now) backward_weights();
}

void Tape::backward_weights() {
  const auto work = std::move(put_off_);
  put_off_.clear();
  for (const auto& w : work) w();
}

Tensor Tape::grad(const Var& leaf) const { return slots_[leaf.id_].grad; }

}  // namespace gf
