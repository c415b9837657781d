// SPDX-License-Identifier: Apache-2.0
// The one place that knows whether this build has CUDA, and that decides where a kernel runs.
#pragma once
#include <string>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "tensor/types.h"

namespace gf {

#ifdef GF_WITH_CUDA
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

struct CudaStream {
  void* handle = nullptr;  // a cudaStream_t, without CUDA's headers
};

struct CudaEvent {
  void* handle = nullptr;  // a cudaEvent_t
};
struct CudaGraph {
  void* handle = nullptr;  // a cudaGraphExec_t
};

// What a GPU that has room begins with: what one stream was given, or another.
enum class Turn : uint8_t { any, first };

// Memory on a CUDA device, and the order of work on it; defined in a build with CUDA.
namespace cuda {
CudaStream current_stream();   // where what this thread computes goes, in order
void synchronize(CudaStream);  // waits for all that was started on it
std::byte* allocate(size_t bytes, CudaStream);
void release(std::byte*, CudaStream);
void fill_zero(std::byte*, size_t bytes, CudaStream);
void copy(const std::byte* from, std::byte* to, size_t bytes, CudaStream);  // from and to any device
std::byte* allocate_pinned(size_t bytes);                                   // of the CPU; see PinnedMemory
void release_pinned(std::byte*);
CudaStream make_stream(Turn);  // of the GPU in use; see SideStream
CudaEvent make_event();
CudaEvent make_timed_event();
double milliseconds_between(CudaEvent, CudaEvent);  // timed ones, which have passed
void destroy(CudaStream);
void destroy(CudaEvent);
void record(CudaEvent, CudaStream);  // at the end of what the stream has been given
bool passed(CudaEvent);
void wait(CudaEvent);              // until it has passed
void wait(CudaStream, CudaEvent);  // what the stream is given next waits
void begin_capture(CudaStream);    // see CapturedWork
bool is_capturing(CudaStream);
CudaGraph end_capture(CudaStream);
void abandon_capture(CudaStream);
void launch(CudaGraph, CudaStream);
void destroy(CudaGraph);
int num_gpus();                   // that this process sees
void use_gpu(int);                // on this thread, from now on
int gpu_in_use();                 // by this thread; the first where it has not said
std::string gpu_name();           // of the one in use
std::string gpu_id();             // likewise: tells it from all others, by whatever number a process knows it
size_t gpu_memory_left();         // likewise
size_t shared_memory_of_block();  // likewise: the most that one of its blocks of threads can have
struct GpuSpeed {
  int multiprocessors, generation;  // 8: Ampere, 9: Hopper
  double hertz;                     // its highest clock
};
GpuSpeed gpu_speed();
}  // namespace cuda

// Runs `cpu` or `cuda` where the device says; on the meta device nothing. `cuda` must be a generic lambda,
// [&](auto stream): in a CPU build it is never instantiated, so the cuda:: function it names need not exist.
template <class Cpu, class Cuda>
void on_device(Device device, Cpu&& cpu, [[maybe_unused]] Cuda&& cuda) {
  if (device.kind == Device::Kind::cpu) return cpu();
  if (device.kind == Device::Kind::meta) return;
  if constexpr (kWithCuda) {
    return cuda(cuda::current_stream());
  } else {
    fail("a tensor lives on a CUDA device, but this program was built without CUDA",
         "rebuild with: cmake --preset cuda");
  }
}

// The same with a kernel's arguments, whose numbers are of type T. On a CPU there are kernels for float and double.
template <template <class> class Args, class T, class Cpu, class Cuda>
void on_device(Device device, const Args<T>& args, Cpu&& cpu, Cuda&& cuda) {
  if constexpr (std::is_floating_point_v<T>)
    on_device(
        device, [&] { cpu(args); }, [&](auto stream) { cuda(args, stream); });
  else
    on_device(
        device, [] { fail("an op on a CPU got bf16, in which it does not compute", "--train.precision 32"); },
        [&](auto stream) { cuda(args, stream); });
}

template <class T>
struct Type {
  using type = T;
};

// Calls f(Type<T>) with the element type of a floating-point tensor in which a CPU computes.
template <class F>
void with_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(Type<float>{});
    case DType::f64:
      return f(Type<double>{});
    default:
      fail(cat("an op on real numbers got a tensor of ", dtype));
  }
}

// Likewise for what runs on any device: also with BFloat16, which the meta device takes in any build.
template <class F>
void with_real(DType dtype, F&& f) {
  if (dtype == DType::bf16) return f(Type<BFloat16>{});
  with_float(dtype, std::forward<F>(f));
}

}  // namespace gf
