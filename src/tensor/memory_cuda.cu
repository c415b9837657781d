// SPDX-License-Identifier: Apache-2.0
#include <exception>

#include "tensor/cuda/launch.cuh"

namespace gf::cuda {
namespace {

// To free memory waits for all that the GPU was given, which may itself wait for a rank that has failed: while an error
// is on its way out, memory is left to the end of the process.
bool can_wait() {
  return std::uncaught_exceptions() == 0;
}

}  // namespace

std::byte* allocate(size_t bytes, CudaStream) {
  void* p = nullptr;
  if (const cudaError_t result = cudaMalloc(&p, bytes); result != cudaSuccess) {
    (void)cudaGetLastError();  // it would be told again
    fail(cat("cannot get ", bytes >> 20, " MiB of GPU memory, of which ", gpu_memory_left() >> 20, " MiB are left"),
         "a smaller --train.micro_bsz with more --train.accumulate_grad_batches, or --train.grad_cp 1");
  }
  return static_cast<std::byte*>(p);
}

void release(std::byte* p, CudaStream) {
  if (can_wait()) (void)cudaFree(p);  // fails where the device has failed, which has been said then
}

void fill_zero(std::byte* p, size_t bytes, CudaStream stream) {
  check_cuda(cudaMemsetAsync(p, 0, bytes, native(stream)), "fill memory with zeros");
}

void copy(const std::byte* from, std::byte* to, size_t bytes, CudaStream stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)), "copy memory");
}

std::byte* allocate_pinned(size_t bytes) {
  void* p = nullptr;
  check_cuda(cudaHostAlloc(&p, bytes, cudaHostAllocDefault), "get memory of the CPU that it can copy from");
  return static_cast<std::byte*>(p);
}

void release_pinned(std::byte* p) {
  if (can_wait()) (void)cudaFreeHost(p);
}

int num_gpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();  // no driver, or no GPU
  return 0;
}

void use_gpu(int index) {
  check_cuda(cudaSetDevice(index), "use this GPU");
}

std::string gpu_name() {
  int index = 0;
  cudaDeviceProp properties{};
  check_cuda(cudaGetDevice(&index), "tell the GPU in use");
  check_cuda(cudaGetDeviceProperties(&properties, index), "tell what GPU this is");
  return properties.name;
}

GpuSpeed gpu_speed() {
  int index = 0;
  check_cuda(cudaGetDevice(&index), "tell the GPU in use");
  const auto ask = [&](cudaDeviceAttr what) {
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, what, index), "tell what this GPU can do");
    return value;
  };
  constexpr double kKilo = 1e3;
  return {ask(cudaDevAttrMultiProcessorCount), ask(cudaDevAttrComputeCapabilityMajor),
          kKilo * ask(cudaDevAttrClockRate)};
}

size_t gpu_memory_left() {
  size_t left = 0, all = 0;
  check_cuda(cudaMemGetInfo(&left, &all), "tell how much memory is left");
  return left;
}

}  // namespace gf::cuda
