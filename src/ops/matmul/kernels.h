// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

// The result is in C, or in wide_c where that is more than a T.
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
  Inner<T>* wide_c;
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
