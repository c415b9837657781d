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

cudaDeviceProp properties() {
  cudaDeviceProp all{};
  check_cuda(cudaGetDeviceProperties(&all, gpu_in_use()), "tell what GPU this is");
  return all;
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

int gpu_in_use() {
  int index = 0;
  check_cuda(cudaGetDevice(&index), "tell the GPU in use");
  return index;
}

std::string gpu_name() {
  return properties().name;
}

std::string gpu_id() {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string id;
  for (const char byte : properties().uuid.bytes) {
    const auto bits = static_cast<unsigned char>(byte);
    id += {kDigits[bits >> 4], kDigits[bits & 15]};
  }
  return id;
}

GpuSpeed gpu_speed() {
  constexpr double kKilo = 1e3;
  return {gpu_attribute(cudaDevAttrMultiProcessorCount), gpu_attribute(cudaDevAttrComputeCapabilityMajor),
          kKilo * gpu_attribute(cudaDevAttrClockRate)};
}

size_t shared_memory_of_block() {
  return static_cast<size_t>(gpu_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

size_t gpu_memory_left() {
  size_t left = 0, all = 0;
  check_cuda(cudaMemGetInfo(&left, &all), "tell how much memory is left");
  return left;
}

}  // namespace gf::cuda
