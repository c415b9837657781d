// SPDX-License-Identifier: Apache-2.0
#include "tensor/cuda/launch.cuh"

namespace gf::cuda {
namespace {

cudaEvent_t native(CudaEvent event) {
  return static_cast<cudaEvent_t>(event.handle);
}

CudaEvent event_with(unsigned flags) {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, flags), "make an event");
  return {event};
}

// Where a thread computes: a stream of its own on the GPU that it uses, not the default one, which would wait for
// others.
class ComputeStream {
 public:
  ComputeStream() = default;
  ComputeStream(const ComputeStream&) = delete;
  ComputeStream& operator=(const ComputeStream&) = delete;
  ~ComputeStream() { release(); }

  CudaStream on(int gpu) {
    if (gpu != gpu_) {
      release();
      stream_ = make_stream(Turn::any);
      gpu_ = gpu;
    }
    return stream_;
  }

 private:
  void release() {
    if (gpu_ >= 0) destroy(stream_);
    gpu_ = -1;
  }
  int gpu_ = -1;
  CudaStream stream_;
};

}  // namespace

CudaStream current_stream() {
  thread_local ComputeStream mine;
  return mine.on(gpu_in_use());
}

void synchronize(CudaStream stream) {
  check_cuda(cudaStreamSynchronize(native(stream)), "finish what was started");
}

CudaStream make_stream(Turn turn) {
  int last = 0, first = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&last, &first), "tell the priorities of streams");
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, turn == Turn::first ? first : last),
             "make a stream");
  return {stream};
}

CudaEvent make_event() {
  return event_with(cudaEventDisableTiming);
}

CudaEvent make_timed_event() {
  return event_with(cudaEventDefault);
}

double milliseconds_between(CudaEvent begin, CudaEvent end) {
  float time = 0;
  check_cuda(cudaEventElapsedTime(&time, native(begin), native(end)), "tell a time");
  return time;
}

// These two return at once; what was begun goes on to its end. They fail where the device has failed, which has been
// said then.
void destroy(CudaStream stream) {
  (void)cudaStreamDestroy(native(stream));
}

void destroy(CudaEvent event) {
  (void)cudaEventDestroy(native(event));
}

void record(CudaEvent event, CudaStream stream) {
  check_cuda(cudaEventRecord(native(event), native(stream)), "mark a place in a stream");
}

bool passed(CudaEvent event) {
  const cudaError_t result = cudaEventQuery(native(event));
  if (result == cudaErrorNotReady) {
    (void)cudaGetLastError();  // no error, but told as one to whoever asks next
    return false;
  }
  check_cuda(result, "finish what was started");
  return true;
}

void wait(CudaEvent event) {
  check_cuda(cudaEventSynchronize(native(event)), "finish what was started");
}

void wait(CudaStream stream, CudaEvent event) {
  check_cuda(cudaStreamWaitEvent(native(stream), native(event), 0), "let a stream wait");
}

// Relaxed: another thread of this process may get memory meanwhile, to write a checkpoint.
void begin_capture(CudaStream stream) {
  check_cuda(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed), "begin to capture work");
}

bool is_capturing(CudaStream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(native(stream), &status), "tell whether work is captured");
  return status != cudaStreamCaptureStatusNone;
}

CudaGraph end_capture(CudaStream stream) {
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(native(stream), &graph), "capture work");
  cudaGraphExec_t made = nullptr;
  const cudaError_t result = cudaGraphInstantiate(&made, graph, 0);
  (void)cudaGraphDestroy(graph);
  check_cuda(result, "make a graph");
  return {made};
}

void abandon_capture(CudaStream stream) {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(native(stream), &graph) == cudaSuccess && graph) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();  // why it was abandoned is being told
}

void launch(CudaGraph graph, CudaStream stream) {
  check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph.handle), native(stream)), "launch a graph");
}

void destroy(CudaGraph graph) {
  (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph.handle));
}

}  // namespace gf::cuda
