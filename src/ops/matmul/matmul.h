// SPDX-License-Identifier: Apache-2.0
// The matrix product under linear, LoRA and head: not itself on the tape.
#pragma once
#include "tensor/tensor.h"

namespace gf {

// A tensor seen as a matrix: the last dimension is its columns, all before it its rows. `cols` may be a part of
// a wider matrix's columns, `stride` elements from row to row.
struct Matrix {
  Tensor data;  // the first element is the matrix's first
  int64_t rows, cols, stride;
  bool transposed = false;

  explicit Matrix(const Tensor& t) : Matrix(t, 0, t.size(-1)) {}
  Matrix(const Tensor& t, int64_t first_col, int64_t num_cols);
  Matrix T() const;  // the same memory, read as its transpose
};

enum class Into : uint8_t { replace, accumulate };

// C = A B, or C += A B. Sums are float32, in an order that the shapes alone decide. C may be float32 where A and B are
// bf16; on the CPU B may be the transpose of a bf16 matrix beside a float32 A. Throws, naming the shapes, where they do
// not fit.
void matmul(const Matrix& a, const Matrix& b, const Matrix& c, Into = Into::replace);

}  // namespace gf
