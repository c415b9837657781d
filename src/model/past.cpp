// SPDX-License-Identifier: Apache-2.0
#include "model/past.h"

#include "tensor/arithmetic.h"

namespace gf {

Past Past::copy() const {
  Past other(options_);
  other.size_ = size_;
  for (const auto& [name, tensor] : fixed_) {
    const Tensor& to = other.fixed_.emplace(name, Tensor::empty(tensor.shape(), tensor.dtype(), kCpu)).first->second;
    gf::copy(tensor, to);
  }
  for (const auto& [name, rows] : growing_) other.growing_.emplace(name, rows.copy());
  return other;
}

Tensor Past::row_before(const std::string& name, const Var& x_BTC) {
  const Tensor& x = x_BTC.value();
  GF_CHECK(x.shape().rank() == 3 && x.size(0) == 1, "one sequence is read on, not ", x.shape());
  const int64_t T = x.size(1), C = x.size(2);
  const Tensor kept = state(name, {1, C}, x.dtype());
  const Tensor before = x_BTC.tape().empty({1, C}, x.dtype());
  gf::copy(kept, before);
  gf::copy(x.view({T, C}).slice(T - 1, T), kept);
  return before;
}

Tensor& Past::state(const std::string& name, const Shape& shape, DType dtype) {
  const auto found = fixed_.find(name);
  if (found == fixed_.end()) return fixed_.emplace(name, Tensor::zeros(shape, dtype, kCpu)).first->second;
  check_shape("what was kept", name.c_str(), found->second, shape);
  return found->second;
}

GrowingRows& Past::growing(const std::string& name, int64_t width, DType kept) {
  return growing_.try_emplace(name, width, kept).first->second;
}

size_t Past::fixed_bytes() const {
  size_t bytes = 0;
  for (const auto& [name, tensor] : fixed_) bytes += tensor.bytes();
  return bytes;
}

size_t Past::growing_bytes() const {
  size_t bytes = 0;
  for (const auto& [name, rows] : growing_) bytes += rows.bytes();
  return bytes;
}

}  // namespace gf
