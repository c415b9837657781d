// SPDX-License-Identifier: Apache-2.0
// Streams, events and graphs of the emulation. A stream does at once what it is given; only messages (nccl.cpp) stay in
// it until they have come through, and what comes after them waits. A stream is used by one thread at a time, and by
// threads that use its GPU.
#include "streams.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

using Pendings = std::vector<std::shared_ptr<emulation::Pending>>;

struct EmulatedGraph {
  std::vector<std::function<void()>> work;
};
struct EmulatedStream {
  Pendings pending;
  EmulatedGraph* capture = nullptr;
  const int gpu = emulation::gpu_in_use();
  const std::thread::id maker = std::this_thread::get_id();
};
struct EmulatedEvent {
  std::mutex mutex;  // another thread may look
  Pendings pending;
  std::chrono::steady_clock::time_point recorded;
};

namespace {

std::mutex streams_mutex;
std::set<EmulatedStream*> streams;
thread_local int waits = 0;
thread_local bool not_ready = false;  // what cudaGetLastError() is to tell

bool is_here(cudaStream_t stream) {
  emulation::touch();
  return !stream || stream->gpu == emulation::gpu_in_use();
}

bool are_done(Pendings& pendings, bool wait) {
  std::erase_if(pendings, [wait](const auto& p) { return p->is_done(wait); });
  return pendings.empty();
}

}  // namespace

namespace emulation {

cudaError_t give(cudaStream_t stream, std::function<void()> work) {
  if (!is_here(stream)) return cudaErrorInvalidResourceHandle;
  if (stream && stream->capture) {
    stream->capture->work.push_back(std::move(work));
    return cudaSuccess;
  }
  if (stream) are_done(stream->pending, true);
  work();
  return cudaSuccess;
}

void add(cudaStream_t stream, std::shared_ptr<Pending> pending) {
  stream->pending.push_back(std::move(pending));
}

int take_waits() {
  return std::exchange(waits, 0);
}

void wait_for_all() {
  std::vector<EmulatedStream*> here;
  {
    const std::lock_guard lock(streams_mutex);
    std::ranges::copy_if(streams, std::back_inserter(here), [](const EmulatedStream* s) {
      return s->gpu == gpu_in_use() && s->maker == std::this_thread::get_id();
    });
  }
  for (EmulatedStream* stream : here) are_done(stream->pending, true);
}

}  // namespace emulation

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return emulation::give(stream, [=] { std::memcpy(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  return emulation::give(stream, [=] { std::memset(p, value, bytes); });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  emulation::touch();
  *stream = new EmulatedStream;
  const std::lock_guard lock(streams_mutex);
  streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    const std::lock_guard lock(streams_mutex);
    streams.erase(stream);
  }
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  emulation::touch();
  ++waits;
  if (stream && stream->capture) return cudaErrorStreamCaptureUnsupported;
  if (stream) are_done(stream->pending, true);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (stream && stream->capture) return cudaErrorStreamCaptureUnsupported;  // of what is outside the graph
  if (!stream) return cudaEventSynchronize(event);
  const std::lock_guard lock(event->mutex);
  stream->pending.insert(stream->pending.end(), event->pending.begin(), event->pending.end());
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!is_here(stream)) return cudaErrorInvalidResourceHandle;
  if (stream && stream->capture) return cudaErrorStreamCaptureUnsupported;
  const std::lock_guard lock(event->mutex);
  event->recorded = std::chrono::steady_clock::now();
  event->pending = stream ? stream->pending : Pendings();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  emulation::touch();
  ++waits;
  const std::lock_guard lock(event->mutex);
  are_done(event->pending, true);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  emulation::touch();
  const std::lock_guard lock(event->mutex);
  if (are_done(event->pending, false)) return cudaSuccess;
  not_ready = true;
  return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = std::chrono::duration<float, std::milli>(to->recorded - from->recorded).count();
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  return std::exchange(not_ready, false) ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream && stream->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!stream || stream->capture) return cudaErrorStreamCaptureUnsupported;
  stream->capture = new EmulatedGraph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->capture, nullptr);
  return *graph ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  emulation::wait_for_all();
  *made = new EmulatedGraph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  return emulation::give(stream, [graph] {
    for (const auto& work : graph->work) work();
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
