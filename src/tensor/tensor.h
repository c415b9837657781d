// SPDX-License-Identifier: Apache-2.0
// A dense, row-major view of shared memory. Copying a Tensor copies the view, not the data; the memory goes
// back to where it came from (an arena, the heap) with the last view of it.
#pragma once
#include <memory>
#include <vector>

#include "base/error.h"
#include "tensor/types.h"

namespace gf {

class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<std::byte> data, Shape shape, DType dtype, Device device)
      : data_(std::move(data)), shape_(shape), dtype_(dtype), device_(device) {}

  // Memory of its own, for what lives long; what a pass makes comes from its Arena.
  static Tensor empty(Shape, DType, Device);
  static Tensor zeros(Shape, DType, Device);
  template <class T>
  static Tensor of(Shape shape, const std::vector<T>& values);  // on the CPU

  explicit operator bool() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t size(int i) const { return shape_[i]; }
  int64_t numel() const { return shape_.numel(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }

  template <class T>
  T* data() const {  // throws where T is not the dtype
    GF_CHECK(dtype_of<T> == dtype_, "a tensor of ", dtype_, " read as ", dtype_of<T>);
    return reinterpret_cast<T*>(data_.get());
  }
  std::byte* raw() const { return data_.get(); }

  Tensor view(Shape) const;                                   // same memory, same number of elements
  Tensor slice(int64_t begin, int64_t end) const;             // [begin, end) of dimension 0
  Tensor range(int64_t begin, int64_t end) const;             // elements [begin, end), as one dimension
  bool sole_owner() const { return data_.use_count() == 1; }  // no other view: may be written over

 private:
  Tensor at_offset(int64_t elements, Shape) const;
  std::shared_ptr<std::byte> data_;
  Shape shape_;
  DType dtype_ = DType::f32;
  Device device_;
};

template <class T>
T* data_or_null(const Tensor& t) {  // null where it is empty
  return t ? t.data<T>() : nullptr;
}

// Throws, naming both shapes, unless `t` has this shape.
void check_shape(const char* op, const char* name, const Tensor& t, const Shape& want);

template <class T>
Tensor Tensor::of(Shape shape, const std::vector<T>& values) {
  GF_CHECK(shape.numel() == static_cast<int64_t>(values.size()), values.size(), " values for a tensor of ", shape);
  Tensor t = empty(shape, dtype_of<T>, kCpu);
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

}  // namespace gf
