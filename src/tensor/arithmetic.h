// SPDX-License-Identifier: Apache-2.0
// The few whole-tensor operations that the engine itself needs. Shapes and dtypes must agree.
#pragma once
#include "tensor/tensor.h"

namespace gf {

void fill_zero(const Tensor&);
void discard(const Tensor&);  // sets it to zero, and gives its memory back until it is used again, as far as pages go
void fill(const Tensor&, double value);
void copy(const Tensor& from, const Tensor& to);                // also between devices
void add_to(const Tensor& sum, const Tensor& term);             // sum += term
void add(const Tensor& a, const Tensor& b, const Tensor& out);  // out = a + b
void scale(const Tensor& t, double factor);                     // t *= factor
double sum_of_squares(const Tensor&);                           // in double, in a fixed order
// Between f32 and bf16, rounded to nearest, on one device; between i32 and u16 on the CPU; or of the same dtype, which
// is a copy.
void convert(const Tensor& from, const Tensor& to);
Tensor on(Device, const Tensor&);  // the tensor where it is there already (or empty), else a copy

}  // namespace gf
