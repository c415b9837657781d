// SPDX-License-Identifier: Apache-2.0
// Where a pass takes its tensors from. Memory is got from the device as it is needed, on a CPU at the end of one
// address space, on a GPU in regions, and handed out best fit first; a tensor's memory returns when its last view goes,
// neighbours are joined again. The same sequence of requests gets the same addresses, so every step runs in the memory
// of the one before it, and a pass over the meta device tells beforehand what the real one will need. One arena a
// microbatch in flight; not thread-safe.
#pragma once
#include <memory>

#include "tensor/tensor.h"

namespace gf {

class Arena {
 public:
  explicit Arena(Device);
  Tensor empty(Shape, DType);

  Device device() const;
  size_t bytes_in_use() const;
  size_t peak_bytes() const;      // the most that was in use at one time
  size_t reserved_bytes() const;  // got from the device
  void reset_peak();

 private:
  class Pool;
  std::shared_ptr<Pool> pool_;  // shared with the tensors, which may outlive the arena
};

// Memory of one tensor alone, which goes back to the device with it: just its pages, and nothing that keeps account of
// them (an Arena's some 700 bytes) beside the tensor itself.
Tensor lone_tensor(Shape, DType, Device);

}  // namespace gf
