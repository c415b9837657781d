// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/gemm.h"
#include "ops/matmul/kernels.h"

namespace gf::cpu {

template <class T>
void matmul(const MatmulArgs<T>& p) {
  parallel_gemm<T>(p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, p.accumulate ? T(1) : T(0), p.c,
                   p.ldc);
}
template void matmul(const MatmulArgs<float>&);
template void matmul(const MatmulArgs<double>&);

}  // namespace gf::cpu
