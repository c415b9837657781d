// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tensor/on_device.h"

namespace gf {

template <class T>
struct Wkv6Args {
  int64_t B, Tn, H, N;     // Tn: steps
  const T *r, *k, *v, *w;  // B x Tn x (H N)
  const T *u, *add;        // H x N, B x Tn x (H N); null for none
  bool scale_keys;
  T* y;                          // B x Tn x (H N)
  Inner<T>* state;               // B x H x N x N: the first S, replaced by the last; null: zeros, and not kept
  std::byte* scratch = nullptr;  // on a GPU, as much as cuda::wkv6_scratch says
};

template <class T>
struct Wkv6BackwardArgs {
  Wkv6Args<T> forward;  // y is not read; state: the first S, which stays; null: zeros
  const T* dy;
  T *dr, *dk, *dv, *dw;                   // B x Tn x (H N), replaced
  Inner<T>* du_partial;                   // B x H x N, replaced: to be summed over B; null where there is no u
  const Inner<T>* dstate_last = nullptr;  // B x H x N x N: the gradient of the last S; null: zeros
  Inner<T>* dstate_first = nullptr;       // likewise of the first S, replaced; null: not wanted
};

namespace cpu {
template <class T>
void wkv6(const Wkv6Args<T>&);
template <class T>
void wkv6_backward(const Wkv6BackwardArgs<T>&);
}  // namespace cpu

namespace cuda {

// sequential: any shape and type, a step at a time. chunked: bf16 and heads of 64 channels, as matrix products.
enum class Wkv6Kernel : uint8_t { sequential, chunked };
inline constexpr int64_t kWkv6Anchor = 32;  // steps of the sequential kernel from one anchor of dw to the next
inline constexpr int64_t kWkv6Chunk = 64, kWkv6HeadSize = 64;
// Of a block of the chunked kernels, at most: more than the 99 KB that a block has where it has not 163 (A100) or more.
inline constexpr size_t kWkv6SharedMemory = size_t{113} << 10;

// `shared_memory`: of a block, at most.
template <class T>
Wkv6Kernel wkv6_kernel(const Wkv6Args<T>& p, size_t shared_memory) {
  const bool chunked = std::is_same_v<T, BFloat16> && p.N == kWkv6HeadSize && p.Tn >= kWkv6Chunk / 4 &&
                       shared_memory >= kWkv6SharedMemory;
  return chunked ? Wkv6Kernel::chunked : Wkv6Kernel::sequential;
}

struct Wkv6Scratch {
  int64_t forward, backward;  // bytes
};

template <class T>
Wkv6Scratch wkv6_scratch(const Wkv6Args<T>& p, Wkv6Kernel kernel) {
  const int64_t heads = p.B * p.H;
  if (kernel == Wkv6Kernel::sequential) {  // dr' of all steps, the states at the anchors
    const int64_t anchors = (p.Tn + kWkv6Anchor - 1) / kWkv6Anchor;
    return {0, heads * p.N * (p.Tn + anchors * p.N) * static_cast<int64_t>(sizeof(Inner<T>))};
  }
  const int64_t chunks = heads * ((p.Tn + kWkv6Chunk - 1) / kWkv6Chunk);
  const int64_t states = chunks * p.N * p.N * static_cast<int64_t>(sizeof(BFloat16));  // S before each chunk
  return {states, 2 * states + chunks * p.N * 4};                                      // and D after it; du of each
}

// By the kernel that fits.
template <class T>
void wkv6(const Wkv6Args<T>&, CudaStream);
template <class T>
void wkv6_backward(const Wkv6BackwardArgs<T>&, CudaStream);

template <class T>
void wkv6_sequential(const Wkv6Args<T>&, CudaStream);
template <class T>
void wkv6_sequential_backward(const Wkv6BackwardArgs<T>&, CudaStream);

void wkv6_chunked(const Wkv6Args<BFloat16>&, CudaStream);
void wkv6_chunked_backward(const Wkv6BackwardArgs<BFloat16>&, CudaStream);

}  // namespace cuda

}  // namespace gf
