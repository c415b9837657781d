// SPDX-License-Identifier: Apache-2.0
#include "model/parameter.h"

#include "tensor/arithmetic.h"

namespace gf {
namespace {

int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

}  // namespace

void Parameter::set(const Tensor& numbers) const {
  if (numbers.raw() == value_.raw()) return;
  if (numbers.dtype() == value_.dtype()) return copy(numbers, value_);
  convert(gf::on(value_.device(), numbers), value_);
}

const Parameter& ParameterStore::add(std::string name, ParameterSpec spec) {
  if (const Parameter* known = find(name)) {
    GF_CHECK(known->shape() == spec.shape, name, " is ", known->shape(), " in one layer and ", spec.shape,
             " in another");
    trained_uses_ += known->frozen() ? 0 : 1;
    return *known;
  }
  GF_CHECK(!allocated(), name, " was added after the parameters were allocated");
  const Tuning tuning = rule_ ? rule_(name) : Tuning();
  trained_uses_ += tuning.frozen ? 0 : 1;
  int64_t& size = tuning.frozen ? frozen_size_ : size_;
  const int64_t begin = size;
  size = round_up(size + spec.shape.numel(), kAlign);
  all_.push_back(std::unique_ptr<Parameter>(new Parameter(std::move(name), std::move(spec), tuning, begin)));
  by_name_.emplace(all_.back()->name(), all_.back().get());
  return *all_.back();
}

void ParameterStore::pad_layer() {
  for (int64_t* size : {&size_, &frozen_size_}) *size = round_up(*size, layer_multiple_);
}

void ParameterStore::allocate(Device device, DType dtype, Gradients gradients) {
  GF_CHECK(!allocated(), "parameters allocated twice");
  allocated_ = true;
  values_ = Tensor::zeros({size_}, dtype, device);
  frozen_values_ = Tensor::zeros({frozen_size_}, dtype, device);
  if (gradients == Gradients::zeroed) grads_ = Tensor::zeros({size_}, inner(dtype), device);
  for (const auto& p : all_) {
    p->value_ = (p->frozen() ? frozen_values_ : values_).range(p->begin(), p->end()).view(p->shape());
    if (grads_ && !p->frozen()) p->grad_ = grads_.range(p->begin(), p->end()).view(p->shape());
  }
}

void ParameterStore::narrow() {
  GF_CHECK(values_ && !grads_, "parameters that are trained or not there were to become bf16");
  const auto is_matrix = [](const Parameter& p) { return p.spec().role == Role::matrix; };
  for (const bool matrices : {true, false}) {  // each kind in one piece of memory, which is of large pages
    int64_t size = 0;
    for (const auto& p : all_)
      if (is_matrix(*p) == matrices) size += round_up(p->shape().numel(), 2 * kAlign);
    const Tensor all = Tensor::empty({size}, matrices ? DType::bf16 : values_.dtype(), kCpu);
    int64_t at = 0;
    for (const auto& p : all_) {
      if (is_matrix(*p) != matrices) continue;
      const int64_t n = p->shape().numel();
      const Tensor own = all.range(at, at + n).view(p->shape());
      convert(p->value(), own);
      discard(p->value());  // at once: both kinds of all of them would take half as much again
      p->value_ = own;
      at += round_up(n, 2 * kAlign);
    }
  }
  values_ = frozen_values_ = {};
}

const Parameter* ParameterStore::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::vector<std::string> ParameterStore::names() const {
  std::vector<std::string> names;
  for (const auto& p : all_) names.push_back(p->name());
  return names;
}

int64_t ParameterStore::count() const {
  int64_t n = 0;
  for (const auto& p : all_) n += p->shape().numel();
  return n;
}

int64_t ParameterStore::trained_count() const {
  int64_t n = 0;
  for (const auto& p : all_)
    if (!p->frozen()) n += p->shape().numel();
  return n;
}

}  // namespace gf
