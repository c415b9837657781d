// SPDX-License-Identifier: Apache-2.0
// How kernels are launched, and what they find where they run: the one place that names CUDA's launch interface, so
// that tests/cuda_emulation can run the same kernels on a CPU.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "tensor/cuda/check.h"
#include "tensor/on_device.h"

namespace gf::cuda {

inline cudaStream_t native(CudaStream stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

// kernel<<<grid, block, shared>>>(args...) in order on the stream. Throws where it cannot be started; what goes wrong
// within it comes out of the next operation that waits for the device.
template <class... Params, class... Args>
void launch(CudaStream stream, dim3 grid, dim3 block, size_t shared, void (*kernel)(Params...), const Args&... args) {
  constexpr size_t kWithoutAsking = 48 << 10;
  if (shared > kWithoutAsking)
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
               "give a kernel its shared memory");
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared, config.stream = native(stream);
  check_cuda(cudaLaunchKernelEx(&config, kernel, Params(args)...), "launch a kernel");
}

inline unsigned blocks_of(int64_t n, int64_t block) {
  return static_cast<unsigned>((n + block - 1) / block);
}

template <class F>
__global__ void each_kernel(int64_t n, F f) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += stride) f(i);
}

// f(i) for i in [0, n), on as many threads: [=] __device__(int64_t i) { ... }.
template <class F>
void each(CudaStream stream, int64_t n, const F& f) {
  constexpr int64_t kBlock = 256, kMostBlocks = 132 * 32;
  if (n > 0) launch(stream, std::min<unsigned>(blocks_of(n, kBlock), kMostBlocks), kBlock, 0, each_kernel<F>, n, f);
}

// The shared memory that was asked for at the launch.
template <class T>
__device__ T* dynamic_shared() {
#ifdef GF_CUDA_EMULATED
  return static_cast<T*>(emulation::dynamic_shared());
#else
  extern __shared__ __align__(128) unsigned char gf_dynamic_shared[];
  return reinterpret_cast<T*>(gf_dynamic_shared);
#endif
}

}  // namespace gf::cuda
