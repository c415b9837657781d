// SPDX-License-Identifier: Apache-2.0
// One check for any op: a contract that every op of ops.def meets.
//  * gradients: in double against central differences, each input alone and all together;
//  * float32 against double, values and gradients;
//  * two runs, and runs with one and with two threads, have the same bits;
//  * weight gradients put off have the bits of those taken at once;
//  * over meta tensors it makes the same shapes and asks its arena for the same memory;
//  * in a build with CUDA, on the GPU (or its emulation) in double, float32 and bf16, each against double on the CPU,
//    and twice with the same bits.
// `run` must take other tensors than its inputs from the device of the tape's arena.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "autodiff/tape.h"
#include "tensor/arithmetic.h"

namespace gf {

struct OpInput {
  Shape shape;
  double low = -1, high = 1;  // hashed values, uniform in this range
  bool differentiable = true;
};

struct OpCase {
  std::string name;
  std::vector<OpInput> inputs;
  std::function<std::vector<Var>(Tape&, const std::vector<Var>&)> run;
  // Largest |float32 - double| over the norm of the double result. 2e-6: some thirty roundings of 6e-8 each, in
  // sums whose errors partly cancel. An op that amplifies rounding states its own and why.
  double float_tolerance = 2e-6;
  double double_tolerance = 1e-12;  // likewise for double on a GPU
  // Likewise for bf16 on a GPU. 1e-2: inputs, results and what is kept between kernels have 8 bits, an error of 2^-9
  // each, a few of them in a row.
  double bf16_tolerance = 1e-2;
  bool is_loss = false;  // the backward pass starts with a gradient of 1, else with random ones
};

// Central differences: for small cases, each element of each input is moved.
void check_gradients(const OpCase&);
// All but the differences: for large and odd shapes too.
void check_float_and_bits(const OpCase&);

}  // namespace gf
