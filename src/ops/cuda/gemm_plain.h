// SPDX-License-Identifier: Apache-2.0
// Of gemm_cuda.cu: a product that asks for no alignment, for what cuBLASLt has no algorithm: slower than its own by
// far.
#pragma once
#include "ops/cuda/gemm.h"

namespace gf::cuda {

template <class In, class Out>
void plain_gemm(CudaStream, const GemmShape&, const GemmStrides&, Inner<In> alpha, const In* a, const In* b,
                Inner<In> beta, Out* c);

}  // namespace gf::cuda
