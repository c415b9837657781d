// SPDX-License-Identifier: Apache-2.0
// Rows of one width that grow in number. Memory comes in pages of them and never moves. A page is as large as all
// before it together, up to a size: of few rows no more than twice the memory is got that is used, and of many one page
// more. The system gives what is used of it. On the CPU.
#pragma once
#include <algorithm>
#include <vector>

#include "tensor/tensor.h"

namespace gf {

class GrowingRows {
 public:
  static constexpr int64_t kBlock = 256;  // how many are worked on at once; a page has whole ones
  // A page has no more than so many rows or bytes, whichever is less, but a block at least: a power of two of blocks,
  // so that pages end wherever kMostRows more are full. Each is a tensor, of whose bookkeeping (some 700 bytes) each
  // row bears its share: with so many rows, a tenth of a byte.
  static constexpr int64_t kMostRows = 32 * kBlock;
  static constexpr size_t kMostBytes = size_t{2} << 20;
  // `kept`: the dtype of the rows, or bf16 for f32, u16 for i32.
  GrowingRows(int64_t width, DType kept) : width_(width), kept_(kept) {}

  int64_t size() const { return size_; }
  int64_t width() const { return width_; }
  DType kept() const { return kept_; }
  size_t bytes() const;  // of all pages that there are
  // (..., width), of the dtype they are computed with
  void append(const Tensor& rows);
  // (end - begin, width): a view where they are kept as they came and lie in one page, else a copy.
  Tensor rows(int64_t begin, int64_t end) const;
  // One that grows by itself from here on; full blocks, which do not change, are shared.
  GrowingRows copy() const;

 private:
  struct Page {
    int64_t first;
    Tensor rows;
    int64_t end() const { return first + rows.size(0); }
  };
  int64_t room() const { return pages_.empty() ? 0 : pages_.back().end(); }  // rows in all pages
  int64_t fewest_blocks() const;                                             // of a page
  const Page& page_of(int64_t row) const;
  Tensor part(int64_t begin, int64_t end) const;  // of one page, as kept
  void add_page(int64_t blocks);
  int64_t width_, size_ = 0;
  DType kept_;
  std::vector<Page> pages_;
};

}  // namespace gf
