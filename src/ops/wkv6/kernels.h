// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

template <class T>
struct Wkv6Args {
  int64_t B, Tn, H, N;     // Tn: steps
  const T *r, *k, *v, *w;  // B x Tn x (H N)
  const T *u, *add;        // H x N, B x Tn x (H N); null for none
  bool scale_keys;
  T* y;             // B x Tn x (H N)
  Inner<T>* state;  // B x H x N x N: the first S, replaced by the last; null: zeros, and not kept
};

template <class T>
struct Wkv6BackwardArgs {
  Wkv6Args<T> forward;  // y is not read
  const T* dy;
  T *dr, *dk, *dv, *dw;  // B x Tn x (H N), replaced
  Inner<T>* du_partial;  // B x H x N, replaced: to be summed over B; null where there is no u
};

namespace cpu {
template <class T>
void wkv6(const Wkv6Args<T>&);
template <class T>
void wkv6_backward(const Wkv6BackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void wkv6(const Wkv6Args<T>&, CudaStream);
template <class T>
void wkv6_backward(const Wkv6BackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
