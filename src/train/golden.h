// SPDX-License-Identifier: Apache-2.0
// Golden cases: losses, logits, taps, gradients and a training run of each published variant, made in float64 by
// another program and kept as JSON (tests/golden/). Parameters and tokens are not stored but hashed from names and
// indices; tensors are stored as a norm and four projections on hashed directions.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "tensor/types.h"

namespace gf {

// The largest error of one kind over its tolerance.
struct GoldenCheck {
  std::string what;   // "gradients"
  std::string worst;  // which tensor, or step
  double error = 0, tolerance = 0;
  bool ok() const { return error <= tolerance; }  // false for NaN
};

struct GoldenOptions {
  bool recompute = false;  // blocks run again in the backward pass
  Device device = kCpu;
  DType dtype = DType::f32;  // or bf16, on a GPU: then losses alone are compared, within 1 %
};

// Rebuilds the case and runs it through the parts a training run uses. Refuses a file that is no case.
std::vector<GoldenCheck> check_golden(const std::filesystem::path&, const GoldenOptions& = {});

}  // namespace gf
