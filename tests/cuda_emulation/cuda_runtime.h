// SPDX-License-Identifier: Apache-2.0
// CUDA's runtime interface on a CPU, as much of it as this project uses: kernels run block by block, each thread of a
// block as a fiber, so that what they compute can be tested where there is no GPU. Threads of a block run in an order
// that changes from one barrier to the next, which shows most uses of shared memory that lack one. Streams do at once
// what they are given, but for messages (nccl.h), which take as long as they need. What may wait for all that a GPU was
// given (to get memory, to make a graph) does. Nothing here tells of speed, of memory order or of alignment.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __shared__ static thread_local  // blocks run one at a time on a thread of the CPU
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

// Of the fiber that runs.
inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 blockDim, gridDim;

namespace emulation {

void* dynamic_shared();
void wait_for_block();
void wait_for_warp();
// What the lane `from` of this warp gave; all lanes give theirs.
void exchange(const void* given, size_t bytes, unsigned from, void* taken);
// What each lane of this warp gave, 32 times `bytes`.
void exchange_all(const void* given, size_t bytes, void* taken);
void run(dim3 blocks, dim3 threads, size_t shared, const std::function<void()>& thread);

template <class T>
T shuffle(T x, unsigned from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T taken;
  exchange(&x, sizeof(T), from, &taken);
  return taken;
}
template <class T>
void gather(const T& x, T (&all)[32]) {
  static_assert(std::is_trivially_copyable_v<T>);
  exchange_all(&x, sizeof(T), all);
}
inline unsigned lane() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

}  // namespace emulation

inline void __syncthreads() {
  emulation::wait_for_block();
}
inline void __syncwarp(unsigned = 0xffffffffu) {
  emulation::wait_for_warp();
}
template <class T>
T __shfl_sync(unsigned, T x, int from, int width = 32) {
  const unsigned first = emulation::lane() / width * width;
  return emulation::shuffle(x, first + static_cast<unsigned>(from) % width);
}
template <class T>
T __shfl_xor_sync(unsigned, T x, int mask, int = 32) {
  return emulation::shuffle(x, emulation::lane() ^ static_cast<unsigned>(mask));
}
template <class T>
T __shfl_down_sync(unsigned, T x, unsigned delta, int width = 32) {
  const unsigned lane = emulation::lane();
  return emulation::shuffle(x, lane % width + delta < static_cast<unsigned>(width) ? lane + delta : lane);
}
template <class T>
T __shfl_up_sync(unsigned, T x, unsigned delta, int width = 32) {
  const unsigned lane = emulation::lane();
  return emulation::shuffle(x, lane % width >= delta ? lane - delta : lane);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned all = 0;
  for (unsigned l = 0; l < 32; ++l) all |= static_cast<unsigned>(emulation::shuffle(predicate != 0, l)) << l;
  return all;
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
template <class T>
T atomicAdd(T* p, T x) {  // of integers: sums of floats would depend on the order
  static_assert(std::is_integral_v<T>);
  return __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
}
inline void __threadfence() {}

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float rsqrtf(float x) {
  return 1 / std::sqrt(x);
}
inline double rsqrt(double x) {
  return 1 / std::sqrt(x);
}
inline unsigned __float_as_uint(float x) {
  return __builtin_bit_cast(unsigned, x);
}
inline float __uint_as_float(unsigned x) {
  return __builtin_bit_cast(float, x);
}

using cudaStream_t = struct EmulatedStream*;
using cudaEvent_t = struct EmulatedEvent*;
using cudaGraph_t = struct EmulatedGraph*;
using cudaGraphExec_t = struct EmulatedGraph*;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorStreamCaptureUnsupported = 900
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum : unsigned {
  cudaStreamNonBlocking = 1,
  cudaEventDefault = 0,
  cudaEventDisableTiming = 2,
  cudaHostAllocDefault = 0
};

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};
struct cudaUUID_t {
  char bytes[16];
};
struct cudaDeviceProp {
  char name[256];
  cudaUUID_t uuid;
  size_t totalGlobalMem;
  int multiProcessorCount, major, minor;
};

namespace emulation {
// To this thread, as CUDA_VISIBLE_DEVICES would to a process: of the GPUs that GF_EMULATED_GPUS says there are.
void show_gpus(std::vector<int>);
// On which GPUs this process has done something since the last call, as told by the GPU in use: there it has a context.
std::set<int> take_touched();
void touch();  // of the GPU in use
int gpu_in_use();
int take_waits();  // how often this thread has waited for a GPU since the last call
// What a stream that captures keeps, and any other does: after all that it was given before.
cudaError_t give(cudaStream_t, std::function<void()> work);
}  // namespace emulation

template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Args&&... args) {
  return emulation::give(config->stream, [config = *config, kernel, ... args = std::remove_cvref_t<Args>(args)] {
    emulation::run(config.gridDim, config.blockDim, config.dynamicSmemBytes, [&] { kernel(args...); });
  });
}
template <class F>
cudaError_t cudaFuncSetAttribute(F*, cudaFuncAttribute, int) {
  return cudaSuccess;
}

cudaError_t cudaMalloc(void**, size_t);
cudaError_t cudaFree(void*);
cudaError_t cudaHostAlloc(void**, size_t, unsigned);
cudaError_t cudaFreeHost(void*);
cudaError_t cudaMemGetInfo(size_t* left, size_t* all);
cudaError_t cudaGetDeviceCount(int*);  // as many as GF_EMULATED_GPUS says: none where it is not set
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDevice(int*);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp*, int);
enum cudaDeviceAttr {
  cudaDevAttrClockRate = 13,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t*, unsigned, int);
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaEventQuery(cudaEvent_t);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t);
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0, cudaStreamCaptureStatusActive = 1 };
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus*);
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t);
const char* cudaGetErrorName(cudaError_t);
