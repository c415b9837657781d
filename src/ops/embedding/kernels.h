// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "base/parallel_for.h"
#include "tensor/on_device.h"

namespace gf {

template <class T>
struct EmbeddingArgs {
  int64_t M, C, V;
  const int32_t* tokens;
  const T* table;
  T* y;
  const BFloat16* narrow_table = nullptr;  // read in its place where it is there
};

// How a GPU shares M positions: those that a warp sorts, and those, sorted, whose rows a block adds up.
inline constexpr int64_t kEmbeddingDigits = 256, kEmbeddingRun = 32;
inline Blocks embedding_units(int64_t M) {
  return Blocks::at_most(M, 1024, 256);
}
inline Blocks embedding_runs(int64_t M) {
  return Blocks::of_length(M, kEmbeddingRun);
}

// The length of `order` below: a GPU, and the meta device that stands for one, has positions twice, before and after a
// pass of its sort, and counts.
inline int64_t embedding_order(int64_t M, Device device) {
  return is_like_gpu(device) ? 2 * M + kEmbeddingDigits * (embedding_units(M).size() + 1) : M;
}

template <class T>
struct EmbeddingBackwardArgs {
  int64_t M, C, V;
  const int32_t* tokens;
  const T* dy;
  int32_t* order;    // scratch
  Inner<T>* heads;   // scratch on a GPU: embedding_runs(M).size() * C
  Inner<T>* dtable;  // a sum to add into
};

namespace cpu {
template <class T>
void embedding(const EmbeddingArgs<T>&);
template <class T>
void embedding_backward(const EmbeddingBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void embedding(const EmbeddingArgs<T>&, CudaStream);
template <class T>
void embedding_backward(const EmbeddingBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
