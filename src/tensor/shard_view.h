// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <string>

#include "tensor/types.h"

namespace gf {

// A contiguous piece of a named global tensor, held by this rank. Checkpoints speak only of these, so that a
// run may resume on another number of ranks.
struct ShardView {
  std::string name;  // path in the checkpoint: "model/blocks.3.att.key.weight", "optim/exp_avg/emb.weight"
  DType dtype;
  Shape shape;         // of the whole tensor
  int64_t begin, end;  // this piece, in elements of the whole, row-major
  std::byte* data;     // end - begin elements
  Device device = kCpu;

  int64_t bytes() const { return (end - begin) * static_cast<int64_t>(size_of(dtype)); }
};

}  // namespace gf
