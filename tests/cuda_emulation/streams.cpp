// SPDX-License-Identifier: Apache-2.0
// Streams, events and graphs of the emulation. A stream does at once what it is given; only messages (nccl.cpp) stay in
// it until they have arrived, and what comes after them waits. A stream is used by one thread at a time.
#include "streams.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

using Pendings = std::vector<std::shared_ptr<emulation::Pending>>;

struct EmulatedGraph {
  std::vector<std::function<void()>> work;
};
struct EmulatedStream {
  Pendings pending;
  EmulatedGraph* capture = nullptr;
};
struct EmulatedEvent {
  std::mutex mutex;  // another thread may look
  Pendings pending;
};

namespace {

bool are_done(Pendings& pendings, bool wait) {
  std::erase_if(pendings, [wait](const auto& p) { return p->is_done(wait); });
  return pendings.empty();
}

}  // namespace

namespace emulation {

cudaError_t give(cudaStream_t stream, std::function<void()> work) {
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

}  // namespace emulation

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return emulation::give(stream, [=] { std::memcpy(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  return emulation::give(stream, [=] { std::memset(p, value, bytes); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
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
  if (stream && stream->capture) return cudaErrorStreamCaptureUnsupported;
  const std::lock_guard lock(event->mutex);
  event->pending = stream ? stream->pending : Pendings();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(event->mutex);
  are_done(event->pending, true);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(event->mutex);
  return are_done(event->pending, false) ? cudaSuccess : cudaErrorNotReady;
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
