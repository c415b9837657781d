// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <vector>

#include "tensor/tensor.h"

namespace gf {

// In the place of a target that a loss mask leaves out.
inline constexpr int32_t kNoTarget = -1;

// One microbatch of token numbers, on the CPU. B sequences of T tokens.
struct Batch {
  Tensor inputs_BT;                // i32
  Tensor targets_BT;               // i32, the inputs' successors; empty where only logits are wanted
  std::vector<int64_t> samples_B;  // each sequence's number in the whole run: what dropout masks derive from
  bool masked = false;             // some targets may be kNoTarget
};

// How many targets count; with a mask on another device than the CPU, as many as may.
inline int64_t count_targets(const Tensor& targets_BT, bool masked) {
  const int64_t n = targets_BT.numel();
  if (!masked || targets_BT.device().kind != Device::Kind::cpu) return n;
  const auto* targets = targets_BT.data<int32_t>();
  return n - std::count(targets, targets + n, kNoTarget);
}

}  // namespace gf
