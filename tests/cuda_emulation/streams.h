// SPDX-License-Identifier: Apache-2.0
// What streams wait for: see streams.cpp.
#pragma once
#include <memory>

#include "cuda_runtime.h"

namespace emulation {

// A message on its way. Called by any thread.
class Pending {
 public:
  virtual ~Pending() = default;
  virtual bool is_done(bool wait) = 0;
};

void add(cudaStream_t, std::shared_ptr<Pending>);

// For all that the streams of this thread on the GPU in use were given: as some of CUDA's calls do.
void wait_for_all();

}  // namespace emulation
