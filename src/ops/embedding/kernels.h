// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

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

template <class T>
struct EmbeddingBackwardArgs {
  int64_t M, C;
  const int32_t* tokens;
  const T* dy;
  int32_t* order;    // scratch: M
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
