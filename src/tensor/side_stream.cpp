// SPDX-License-Identifier: Apache-2.0
#include "tensor/side_stream.h"

#include <cstring>

namespace gf {

StreamEvent::StreamEvent([[maybe_unused]] CudaStream stream) {
  if constexpr (kWithCuda) {
    gpu_ = cuda::gpu_in_use();
    event_ = {cuda::make_event().handle, [](void* e) { cuda::destroy(CudaEvent{e}); }};
    cuda::record(CudaEvent{event_.get()}, stream);
  }
}

StreamEvent StreamEvent::of_current(Device device) {
  if constexpr (kWithCuda)
    if (device.kind == Device::Kind::cuda) return StreamEvent(cuda::current_stream());
  return {};
}

// A thread that has not said which uses the first, and would begin a context there: memory that its owner misses.
void StreamEvent::use_its_gpu() const {
  if constexpr (kWithCuda) cuda::use_gpu(gpu_);
}

bool StreamEvent::passed() const {
  if constexpr (kWithCuda) {
    if (!event_) return true;
    use_its_gpu();
    return cuda::passed(CudaEvent{event_.get()});
  }
  return true;
}

void StreamEvent::wait() const {
  if constexpr (kWithCuda) {
    if (!passed()) cuda::wait(CudaEvent{event_.get()});
  }
}

void StreamEvent::hold_back() const {
  if constexpr (kWithCuda)
    if (event_) cuda::wait(cuda::current_stream(), CudaEvent{event_.get()});
}

SideStream::SideStream(Device device, [[maybe_unused]] Turn turn) {
  if constexpr (kWithCuda)
    if (device.kind == Device::Kind::cuda)
      stream_ = {cuda::make_stream(turn).handle, [](void* s) { cuda::destroy(CudaStream{s}); }};
}

void SideStream::follow() const {
  if constexpr (kWithCuda) {
    if (!stream_) return;
    const StreamEvent here(cuda::current_stream());
    cuda::wait(stream(), CudaEvent{here.event_.get()});
  }
}

void SideStream::copy(const std::byte* from, std::byte* to, size_t bytes) const {
  if constexpr (kWithCuda)
    if (stream_) return cuda::copy(from, to, bytes, stream());
  std::memcpy(to, from, bytes);
}

StreamEvent SideStream::mark() const {
  return stream_ ? StreamEvent(stream()) : StreamEvent();
}

}  // namespace gf
