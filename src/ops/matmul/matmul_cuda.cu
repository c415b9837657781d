// SPDX-License-Identifier: Apache-2.0
#include "ops/cuda/gemm.h"
#include "ops/matmul/kernels.h"

namespace gf::cuda {

template <class T>
void matmul(const MatmulArgs<T>& p, CudaStream stream) {
  const GemmShape shape{p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.lda, p.ldb, p.ldc};
  const Inner<T> beta = p.accumulate ? 1 : 0;
  if (p.c)
    gemm(stream, shape, Inner<T>(1), p.a, p.b, beta, p.c);
  else
    gemm(stream, shape, Inner<T>(1), p.a, p.b, beta, p.wide_c);
}

template void matmul(const MatmulArgs<float>&, CudaStream);
template void matmul(const MatmulArgs<double>&, CudaStream);
template void matmul(const MatmulArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
