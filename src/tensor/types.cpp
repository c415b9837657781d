// SPDX-License-Identifier: Apache-2.0
#include "tensor/types.h"

#include "base/error.h"

namespace gf {

size_t size_of(DType dtype) {
  if (dtype == DType::f64) return 8;
  return dtype == DType::bf16 || dtype == DType::u16 ? 2 : 4;
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::i32:
      return "i32";
    case DType::bf16:
      return "bf16";
    case DType::u16:
      return "u16";
  }
  return "?";
}

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  GF_CHECK(dims.size() <= kMaxRank, "a shape of ", dims.size(), " dimensions");
  for (int i = 0; i < rank_; ++i) {
    GF_CHECK(dims[i] >= 0, "dimension ", i, " of a shape is ", dims[i]);
    dims_[i] = dims[i];
  }
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (const int64_t d : dims()) n *= d;
  return n;
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  for (int i = 0; i < shape.rank(); ++i) out << (i ? "x" : "") << shape[i];
  return shape.rank() ? out : out << "scalar";
}

std::ostream& operator<<(std::ostream& out, DType dtype) {
  return out << name_of(dtype);
}

std::ostream& operator<<(std::ostream& out, Device device) {
  switch (device.kind) {
    case Device::Kind::cpu:
      return out << "cpu";
    case Device::Kind::cuda:
      return out << "cuda:" << device.index;
    case Device::Kind::meta:
      return out << "meta";
  }
  return out;
}

}  // namespace gf
