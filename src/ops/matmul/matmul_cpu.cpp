// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/few_rows.h"
#include "ops/cpu/gemm.h"
#include "ops/matmul/kernels.h"

namespace gf::cpu {

template <class T>
void matmul(const MatmulArgs<T>& p) {
  if (p.m <= kFewRows && !p.transpose_a && p.transpose_b)
    return few_rows(p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, p.accumulate, p.c, p.ldc);
  parallel_gemm<T>(p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, p.accumulate ? T(1) : T(0), p.c,
                   p.ldc);
}
template void matmul(const MatmulArgs<float>&);
template void matmul(const MatmulArgs<double>&);

void matmul(const MatmulArgs<float>& p, const BFloat16* b) {
  GF_CHECK(!p.transpose_a && p.transpose_b, "a product with a bf16 matrix that is not transposed");
  narrow_product(p.m, p.n, p.k, p.a, p.lda, b, p.ldb, p.accumulate, p.c, p.ldc);
}

}  // namespace gf::cpu
