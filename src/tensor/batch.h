// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "tensor/tensor.h"

namespace gf {

// One microbatch of token numbers, on the CPU. B sequences of T tokens.
struct Batch {
  Tensor inputs_BT;                // i32
  Tensor targets_BT;               // i32, the inputs' successors; empty where only logits are wanted
  std::vector<int64_t> samples_B;  // each sequence's number in the whole run: what dropout masks derive from
};

}  // namespace gf
