// SPDX-License-Identifier: Apache-2.0
#include "model/parameter.h"

#include "tensor/arithmetic.h"

namespace gf {

const Parameter& ParameterStore::add(std::string name, ParameterSpec spec) {
  if (const Parameter* known = find(name)) {
    GF_CHECK(known->shape() == spec.shape, name, " is ", known->shape(), " in one layer and ", spec.shape,
             " in another");
    return *known;
  }
  GF_CHECK(!allocated(), name, " was added after the parameters were allocated");
  const int64_t begin = size_;
  size_ += (spec.shape.numel() + kAlign - 1) / kAlign * kAlign;
  all_.push_back(std::unique_ptr<Parameter>(new Parameter(std::move(name), std::move(spec), begin)));
  by_name_.emplace(all_.back()->name(), all_.back().get());
  return *all_.back();
}

void ParameterStore::pad_layer() {
  size_ = (size_ + layer_multiple_ - 1) / layer_multiple_ * layer_multiple_;
}

void ParameterStore::allocate(Device device, DType dtype, Gradients gradients) {
  GF_CHECK(!allocated(), "parameters allocated twice");
  allocated_ = true;
  values_ = Tensor::zeros({size_}, dtype, device);
  if (gradients == Gradients::zeroed) grads_ = Tensor::zeros({size_}, dtype, device);
  for (const auto& p : all_) {
    p->value_ = values_.range(p->begin(), p->end()).view(p->shape());
    if (grads_) p->grad_ = grads_.range(p->begin(), p->end()).view(p->shape());
  }
}

void ParameterStore::narrow() {
  GF_CHECK(values_ && !grads_, "parameters that are trained or not there were to become bf16");
  for (const auto& p : all_) {
    const bool matrix = p->spec().role == Role::matrix;
    const Tensor own = Tensor::empty(p->shape(), matrix ? DType::bf16 : p->value().dtype(), kCpu);
    convert(p->value(), own);
    p->value_ = own;
  }
  values_ = {};
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

}  // namespace gf
