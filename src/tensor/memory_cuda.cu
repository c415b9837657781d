// SPDX-License-Identifier: Apache-2.0
#include "tensor/cuda/launch.cuh"

namespace gf::cuda {

CudaStream current_stream() {
  return {};
}

void synchronize(CudaStream stream) {
  check_cuda(cudaStreamSynchronize(native(stream)), "finish what was started");
}

std::byte* allocate(size_t bytes, CudaStream) {
  void* p = nullptr;
  if (const cudaError_t result = cudaMalloc(&p, bytes); result != cudaSuccess) {
    (void)cudaGetLastError();  // it would be told again
    size_t left = 0, all = 0;
    check_cuda(cudaMemGetInfo(&left, &all), "tell how much memory is left");
    fail(cat("cannot get ", bytes >> 20, " MiB of GPU memory: ", left >> 20, " of ", all >> 20, " MiB are left"),
         "a smaller --train.micro_bsz with more --train.accumulate_grad_batches, or --train.grad_cp 1");
  }
  return static_cast<std::byte*>(p);
}

// After all that was started on it, since cudaFree waits for the device.
void release(std::byte* p, CudaStream) {
  (void)cudaFree(p);  // fails where the device has failed, which has been said then
}

void fill_zero(std::byte* p, size_t bytes, CudaStream stream) {
  check_cuda(cudaMemsetAsync(p, 0, bytes, native(stream)), "fill memory with zeros");
}

void copy(const std::byte* from, std::byte* to, size_t bytes, CudaStream stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)), "copy memory");
}

}  // namespace gf::cuda
