// SPDX-License-Identifier: Apache-2.0
// Neighbours in memory that one instruction reads or writes: up to 16 bytes, at an address that is a multiple of that.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace gf::cuda {

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T x[kCount];
};

template <int kCount, class T>
__device__ Pack<T, kCount> load(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}

template <class T, int kCount>
__device__ void store(T* to, const Pack<T, kCount>& pack) {
  *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
}

inline bool is_aligned(const void* p, size_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

}  // namespace gf::cuda
