// SPDX-License-Identifier: Apache-2.0
// Memory of the CPU that a GPU copies from and to at full speed, without the processor. To get it from the system takes
// long, so it is kept and given out again, by size. In a build without CUDA it is like any other.
#pragma once
#include <memory>

#include "tensor/tensor.h"

namespace gf {

class PinnedMemory {
 public:
  PinnedMemory();
  // A tensor of the CPU; not for several threads at once. What is written to its memory must have arrived, and what
  // is read from it must have been read, before the last view of it goes.
  Tensor empty(Shape, DType);

 private:
  class Pool;
  std::shared_ptr<Pool> pool_;  // shared with the tensors, which may outlive this
};

}  // namespace gf
