// SPDX-License-Identifier: Apache-2.0
#include "tensor/tensor.h"

#include "tensor/arena.h"
#include "tensor/arithmetic.h"

namespace gf {

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  return lone_tensor(shape, dtype, device);
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  if (device != kCpu) fill_zero(t);  // the system's fresh pages are zeros, and take no memory until they are used
  return t;
}

Tensor Tensor::at_offset(int64_t elements, Shape shape) const {
  return {std::shared_ptr<std::byte>(data_, data_.get() + elements * static_cast<int64_t>(size_of(dtype_))), shape,
          dtype_, device_};
}

Tensor Tensor::view(Shape shape) const {
  GF_CHECK(shape.numel() == numel(), "a tensor of ", shape_, " viewed as ", shape);
  return at_offset(0, shape);
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  GF_CHECK(shape_.rank() > 0 && 0 <= begin && begin <= end && end <= shape_[0], "slice ", begin, " to ", end, " of ",
           shape_);
  std::array<int64_t, Shape::kMaxRank> dims{};
  int64_t stride = 1;
  for (int i = 0; i < shape_.rank(); ++i) dims[i] = shape_[i];
  for (int i = 1; i < shape_.rank(); ++i) stride *= shape_[i];
  dims[0] = end - begin;
  return at_offset(begin * stride, Shape(std::span(dims.data(), shape_.rank())));
}

Tensor Tensor::range(int64_t begin, int64_t end) const {
  GF_CHECK(0 <= begin && begin <= end && end <= numel(), "elements ", begin, " to ", end, " of ", shape_);
  return at_offset(begin, Shape{end - begin});
}

void check_shape(const char* op, const char* name, const Tensor& t, const Shape& want) {
  if (!(t.shape() == want)) fail(cat(op, ": ", name, " is ", t.shape(), ", expected ", want));
}

}  // namespace gf
