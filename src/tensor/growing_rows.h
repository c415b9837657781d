// SPDX-License-Identifier: Apache-2.0
// Rows of one width that grow in number. Memory comes in blocks of them and never moves, so that what is got is what is
// used, to within a block or a page. On the CPU.
#pragma once
#include <algorithm>
#include <vector>

#include "tensor/tensor.h"

namespace gf {

class GrowingRows {
 public:
  static constexpr int64_t kBlock = 256;
  // `kept`: the dtype of the rows, or bf16 for f32, u16 for i32.
  GrowingRows(int64_t width, DType kept) : width_(width), kept_(kept) {}

  int64_t size() const { return size_; }
  int64_t width() const { return width_; }
  DType kept() const { return kept_; }
  size_t bytes() const;  // of all blocks that there are
  // (..., width), of the dtype they are computed with
  void append(const Tensor& rows);
  // (end - begin, width): a view where they are kept as they came and lie in one block, else a copy.
  Tensor rows(int64_t begin, int64_t end) const;
  // One that grows by itself from here on; full blocks, which do not change, are shared.
  GrowingRows copy() const;

 private:
  Tensor part(int64_t begin, int64_t end) const;  // of one block, as kept
  void add_blocks();
  int64_t width_, size_ = 0;
  DType kept_;
  std::vector<Tensor> blocks_;
};

}  // namespace gf
