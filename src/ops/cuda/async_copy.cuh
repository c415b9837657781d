// SPDX-License-Identifier: Apache-2.0
// Copies from global into shared memory that go on beside the work of the thread that started them.
#pragma once
#include <cuda_runtime.h>

namespace gf::cuda {

// 16 bytes, both on 16; zeros where `there` is false, from an address that must be valid all the same.
__device__ inline void copy_async(void* to, const void* from, bool there) {
#ifdef GF_CUDA_EMULATED
  if (there)
    std::memcpy(to, from, 16);
  else
    std::memset(to, 0, 16);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(__cvta_generic_to_global(from)),
                 "r"(there ? 16 : 0)
               : "memory");
#endif
}

// Ends a group of copies.
__device__ inline void end_copies() {
#ifndef GF_CUDA_EMULATED
  asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

// Waits for this thread's copies but those of the kLater last groups; those of others are there after a barrier.
template <int kLater>
__device__ inline void wait_for_copies() {
#ifndef GF_CUDA_EMULATED
  asm volatile("cp.async.wait_group %0;" : : "n"(kLater) : "memory");
#endif
}
// Waits for all of them.
__device__ inline void wait_for_copies() {
#ifndef GF_CUDA_EMULATED
  asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}

}  // namespace gf::cuda
