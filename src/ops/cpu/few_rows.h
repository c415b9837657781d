// SPDX-License-Identifier: Apache-2.0
// Products of few rows with a large matrix, C = A W^T: what decoding is made of. They take as long as reading W takes,
// so W is read once, row by row, by all threads; kept as bf16 it is half as many bytes.
#pragma once
#include <cstdint>

#include "tensor/types.h"

namespace gf::cpu {

inline constexpr int64_t kFewRows = 8;

// a: m x k, m at most kFewRows; w: n x k, float, double or BFloat16; c: m x n, added to where `accumulate`. Each sum
// has an order that k alone decides.
template <class T, class W>
void few_rows(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const W* w, int64_t ldw, bool accumulate, T* c,
              int64_t ldc);

// The same for any m and W as bf16, which is made float again part by part.
void narrow_product(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const BFloat16* w, int64_t ldw,
                    bool accumulate, float* c, int64_t ldc);

}  // namespace gf::cpu
