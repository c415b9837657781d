// SPDX-License-Identifier: Apache-2.0
#include "tensor/side_stream.h"

#include <cstring>

namespace gf {
namespace {

// At the end of what a stream has been given.
std::shared_ptr<void> event_in(CudaStream stream) {
  std::shared_ptr<void> event;
  if constexpr (kWithCuda) {
    event = {cuda::make_event().handle, [](void* e) { cuda::destroy(CudaEvent{e}); }};
    cuda::record(CudaEvent{event.get()}, stream);
  }
  return event;
}

}  // namespace

StreamEvent StreamEvent::of_current(Device device) {
  if constexpr (kWithCuda)
    if (device.kind == Device::Kind::cuda) return StreamEvent(event_in(cuda::current_stream()));
  return {};
}

bool StreamEvent::passed() const {
  if constexpr (kWithCuda) return !event_ || cuda::passed(CudaEvent{event_.get()});
  return true;
}

void StreamEvent::wait() const {
  if constexpr (kWithCuda)
    if (event_) cuda::wait(CudaEvent{event_.get()});
}

void StreamEvent::hold_back() const {
  if constexpr (kWithCuda)
    if (event_) cuda::wait(cuda::current_stream(), CudaEvent{event_.get()});
}

SideStream::SideStream(Device device) {
  if constexpr (kWithCuda)
    if (device.kind == Device::Kind::cuda)
      stream_ = {cuda::make_stream().handle, [](void* s) { cuda::destroy(CudaStream{s}); }};
}

void SideStream::follow() const {
  if constexpr (kWithCuda) {
    if (!stream_) return;
    const auto event = event_in(cuda::current_stream());
    cuda::wait(stream(), CudaEvent{event.get()});
  }
}

void SideStream::copy(const std::byte* from, std::byte* to, size_t bytes) const {
  if constexpr (kWithCuda)
    if (stream_) return cuda::copy(from, to, bytes, stream());
  std::memcpy(to, from, bytes);
}

StreamEvent SideStream::mark() const {
  return stream_ ? StreamEvent(event_in(stream())) : StreamEvent();
}

}  // namespace gf
