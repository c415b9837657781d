// SPDX-License-Identifier: Apache-2.0
// Rows of one width that grow in number. Memory comes in pages of them, all of one size, and never moves: no more is
// got than is used and the rest of one page. On the CPU.
#pragma once
#include <vector>

#include "tensor/tensor.h"

namespace gf {

class GrowingRows {
 public:
  static constexpr int64_t kBlock = 256;  // how many are worked on at once; a page has whole ones
  // `kept`: the dtype of the rows, or bf16 for f32, u16 for i32.
  GrowingRows(int64_t width, DType kept);

  int64_t size() const { return size_; }
  int64_t width() const { return width_; }
  DType kept() const { return kept_; }
  int64_t page_rows() const { return page_rows_; }
  size_t bytes() const;  // of all pages that there are
  // (..., width), of the dtype they are computed with
  void append(const Tensor& rows);
  // (end - begin, width): a view where they are kept as they came and lie in one page, else a copy.
  Tensor rows(int64_t begin, int64_t end) const;
  // One that grows by itself from here on; full pages, which do not change, are shared.
  GrowingRows copy() const;

 private:
  int64_t room() const { return std::ssize(pages_) * page_rows_; }  // rows in all pages
  int64_t page_end(int64_t row) const { return (row / page_rows_ + 1) * page_rows_; }
  Tensor part(int64_t begin, int64_t end) const;  // of one page, as kept
  Tensor new_page() const;

  int64_t width_, size_ = 0;
  DType kept_;
  int64_t page_rows_;
  std::vector<Tensor> pages_;
};

}  // namespace gf
