// SPDX-License-Identifier: Apache-2.0
#include "autodiff/tape.h"

#include "tensor/arithmetic.h"

namespace gf {
namespace {

Trace::What forward_span(const char* op, std::span<const Var> inputs, std::span<const Var> outputs) {
  Trace::What what{op};
  const auto add = [&](const Var& v) {
    what.shapes += cat(what.shapes.empty() || what.shapes.ends_with(" ") ? "" : ", ", v.shape());
    what.bytes += static_cast<double>(v.value().bytes());
  };
  for (const Var& v : inputs) add(v);
  what.shapes += " to ";
  for (const Var& v : outputs) add(v);
  return what;
}

}  // namespace

bool Var::needs_grad() const {
  return tape_->slots_[id_].needs_grad;
}

Grads::Grads(Tape& tape, std::span<const uint32_t> inputs, const char* op)
    : tape_(tape), inputs_(inputs), op_(op), given_(inputs.size()) {}

bool Grads::wants(int input) const {
  return tape_.slots_[inputs_[input]].needs_grad;
}

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
  // The gradient of anything but a parameter is read before the backward pass ends.
  if (tape_.weights_ == WeightGradients::now || !tape_.slots_[inputs_[input]].is_parameter) return add_gradient(sum);
  tape_.put_off_.push_back({op_, [sum, add_gradient = std::move(add_gradient)] { add_gradient(sum); }});
}

Tensor Grads::take(int input) {
  Tape::Slot& slot = tape_.slots_[inputs_[input]];
  if (slot.is_sum) return {};
  Tensor gathered = std::move(slot.grad);
  slot.grad = {};
  return gathered;
}

WeightGradients Grads::weights() const {
  return tape_.weights_;
}

void Grads::later(std::vector<PutOff> work) {
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
  slots_.push_back({needs_grad && recording(), false, false, {}, value.shape(), value.dtype()});
  return static_cast<uint32_t>(slots_.size() - 1);
}

Var Tape::leaf(Tensor value, bool needs_grad) {
  const uint32_t id = new_slot(value, needs_grad);
  return {this, id, std::move(value)};
}

Var Tape::parameter(Tensor value, Tensor grad_sum) {
  Var v = leaf(std::move(value), static_cast<bool>(grad_sum));
  Slot& slot = slots_[v.id_];
  if (slot.needs_grad) {
    check_shape("parameter", "the sum of gradients", grad_sum, slot.shape);
    slot.grad = std::move(grad_sum);
    slot.is_sum = slot.is_parameter = true;
  }
  return v;
}

std::vector<Var> Tape::record(const char* op, std::span<const Var> inputs, std::vector<Tensor> outputs,
                              Backward backward, bool always) {
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
  // An op is done when it is recorded: it took the time since the one before.
  if (Trace* trace = Trace::current()) trace->add_span(Trace::Kind::op, forward_span(op, inputs, vars));
  if (needed) nodes_.push_back({op, std::move(ids), first, count, std::move(backward)});
  if (between_ops_) between_ops_();
  return vars;
}

void Tape::mark(std::function<void()> passed, std::function<void()> weights_passed) {
  if (!recording()) return;
  const auto reached = [this, passed = std::move(passed), weights_passed = std::move(weights_passed)](std::span<Tensor>,
                                                                                                      Grads&) {
    passed();
    if (weights_ == WeightGradients::later)
      put_off_.push_back({nullptr, weights_passed});
    else
      weights_passed();
  };
  nodes_.push_back({"mark", {}, 0, 0, reached});
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
  Tensor sum = empty(slot.shape, inner(slot.dtype));
  if (slot.grad)
    convert(slot.grad, sum);
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
  if (node.num_outputs == 0) {  // a mark
    Grads none(*this, {}, node.op);
    return node.backward({}, none);
  }
  std::vector<Tensor> grad_outputs(node.num_outputs);
  bool any = false;
  for (uint32_t i = 0; i < node.num_outputs; ++i) {
    grad_outputs[i] = std::move(slots_[node.first_output + i].grad);
    slots_[node.first_output + i].grad = {};
    any = any || grad_outputs[i];
  }
  if (!any) return;
  Grads grads(*this, node.inputs, node.op);
  const TraceSpan span(Trace::Kind::op, [&] { return backward_span(node); });
  node.backward(grad_outputs, grads);
  grads.check_complete();
}

// Reads the inputs and the gradients of the outputs, writes the gradients of the inputs.
Trace::What Tape::backward_span(const Node& node) const {
  Trace::What what{cat(node.op, " backward")};
  const auto add = [&](const Slot& slot, int times) {
    what.shapes += cat(what.shapes.empty() ? "" : ", ", slot.shape);
    what.bytes += static_cast<double>(slot.shape.numel()) * static_cast<double>(size_of(slot.dtype) * times);
  };
  for (uint32_t i = 0; i < node.num_outputs; ++i) add(slots_[node.first_output + i], 1);
  for (const uint32_t id : node.inputs) add(slots_[id], slots_[id].needs_grad ? 2 : 1);
  return what;
}

void Tape::backward(std::vector<Seed> seeds, WeightGradients weights) {
  GF_CHECK(recording(), "backward of a tape that does not record");
  weights_ = weights;
  for (Seed& s : seeds)
    if (s.output.needs_grad()) accumulate(s.output.id_, std::move(s.grad), "seed");
  seeds.clear();
  while (!nodes_.empty()) {
    const Node node = std::move(nodes_.back());
    nodes_.pop_back();
    run(node);
    if (between_ops_) between_ops_();
  }
  if (weights == WeightGradients::now) backward_weights();
}

void Tape::backward_weights() {
  const auto work = std::move(put_off_);
  put_off_.clear();
  for (const PutOff& w : work) {
    if (w.op) {
      const TraceSpan span(Trace::Kind::op, [&] { return Trace::What{cat(w.op, " weights")}; });
      w.run();
    } else {
      w.run();
    }
    if (between_ops_) between_ops_();
  }
}

Tensor Tape::grad(const Var& leaf) const {
  return slots_[leaf.id_].grad;
}

}  // namespace gf
