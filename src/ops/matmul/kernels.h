// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

template <class T>
struct MatmulArgs {
  int64_t m, n, k;
  const T* a;
  int64_t lda;
  bool transpose_a;
  const T* b;
  int64_t ldb;
  bool transpose_b;
  T* c;
  int64_t ldc;
  bool accumulate;
};

namespace cpu {
template <class T>
void matmul(const MatmulArgs<T>&);
// The same with a bf16 B, transposed; `b` of the arguments is not read.
void matmul(const MatmulArgs<float>&, const BFloat16* b);
}  // namespace cpu
namespace cuda {
template <class T>
void matmul(const MatmulArgs<T>&, CudaStream);
}

}  // namespace gf
