// SPDX-License-Identifier: Apache-2.0
// What some code gave a GPU to do, kept as a whole that can be done again and again: a CUDA graph. It saves the
// processor from finding and launching each kernel anew, and reads and writes the memory that it was captured with.
#pragma once
#include <functional>
#include <memory>

#include "tensor/on_device.h"

namespace gf {

class CapturedWork {
 public:
  CapturedWork() = default;
  // Runs `body`, of whose work for this thread's stream nothing is done yet. It must not wait for the GPU, and must
  // have run before: what is made once (tables, plans, memory) is there.
  explicit CapturedWork(const std::function<void()>& body);
  explicit operator bool() const { return graph_ != nullptr; }
  void launch() const;  // in this thread's stream

 private:
  std::shared_ptr<void> graph_;
};

}  // namespace gf
