// SPDX-License-Identifier: Apache-2.0
// A second row of work on a GPU, beside the one that computes: copies and messages. The processor waits for neither
// unless it asks. On a CPU, where all is done when a call returns, these are nothing.
#pragma once
#include <memory>

#include "tensor/on_device.h"

namespace gf {

// A place in a stream: it passes when all that stands before it is done. Empty: it has passed.
class StreamEvent {
 public:
  StreamEvent() = default;
  static StreamEvent of_current(Device);  // at the end of what this thread has given to compute
  bool passed() const;                    // this and the next on any thread, which uses its GPU from then on
  void wait() const;                      // until then
  void hold_back() const;                 // what this thread computes from now on begins after it

 private:
  friend class SideStream;
  explicit StreamEvent(CudaStream at_end_of);
  void use_its_gpu() const;
  std::shared_ptr<void> event_;
  int gpu_ = 0;
};

class SideStream {
 public:
  explicit SideStream(Device, Turn = Turn::any);
  void follow() const;  // what it is given from now on begins after all that this thread has given to compute
  void copy(const std::byte* from, std::byte* to, size_t bytes) const;
  StreamEvent mark() const;  // at the end of what it has been given
  CudaStream stream() const { return {stream_.get()}; }

 private:
  std::shared_ptr<void> stream_;  // null on a CPU
};

}  // namespace gf
