// SPDX-License-Identifier: Apache-2.0
// Matrix products on a GPU by cuBLASLt, row-major: C = alpha op(A) op(B) + beta C, op(A) m x k, op(B) k x n. Sums are
// float (double for double), those of parts of a product too. The algorithm for a shape is chosen once in a process and
// kept: the first that the library names, a function of shape and GPU, so that two runs on the same GPU have the same
// bits; or the fastest, which a run can leave to the next.
#pragma once
#include <cstdint>
#include <string>

#include "tensor/on_device.h"

namespace gf::cuda {

// Of this thread, from now on: whether factors of float are rounded to TF32, 10 bits, for tensor cores. Not at first.
void use_tf32(bool);

// Likewise: whether what the library would do a product by is timed, at its first use, but for those that `known`
// names.
void choose_fastest_products(const std::string& known);
// What was found out since then, or since the last call, in the same form: lines (see product_choices.h).
std::string take_product_choices();

struct GemmShape {
  bool transpose_a, transpose_b;
  int64_t m, n, k, lda, ldb, ldc;
};

// In: float, double or BFloat16. Out: In, or float where In is BFloat16.
template <class In, class Out>
void gemm(CudaStream, const GemmShape&, Inner<In> alpha, const In* a, const In* b, Inner<In> beta, Out* c);

// `count` products at once, their matrices so many elements apart.
struct GemmStrides {
  int64_t count, a, b, c;
};
template <class In, class Out>
void batched_gemm(CudaStream, const GemmShape&, const GemmStrides&, Inner<In> alpha, const In* a, const In* b,
                  Inner<In> beta, Out* c);

}  // namespace gf::cuda
