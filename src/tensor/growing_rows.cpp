// SPDX-License-Identifier: Apache-2.0
#include "tensor/growing_rows.h"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "tensor/arithmetic.h"

namespace gf {
namespace {

DType computed_with(DType kept) {
  if (kept == DType::bf16) return DType::f32;
  return kept == DType::u16 ? DType::i32 : kept;
}

// The system gives whole pages of its own alone. The fewest blocks that fill some of these: one block of rows that have
// a multiple of 16 bytes, eight of two-byte rows. So nothing is lost at the end of each. What a page takes beside its
// rows, some 200 bytes, is less than a byte a row.
int64_t rows_of_page(int64_t width, DType kept) {
  constexpr int64_t kSystemPage = 4096;
  const int64_t block = GrowingRows::kBlock * width * static_cast<int64_t>(size_of(kept));
  return GrowingRows::kBlock * (kSystemPage / std::gcd(block, kSystemPage));
}

}  // namespace

GrowingRows::GrowingRows(int64_t width, DType kept)
    : width_(width), kept_(kept), page_rows_(rows_of_page(width, kept)) {}

size_t GrowingRows::bytes() const {
  return static_cast<size_t>(room() * width_) * size_of(kept_);
}

Tensor GrowingRows::part(int64_t begin, int64_t end) const {
  const int64_t first = begin / page_rows_ * page_rows_;
  return pages_[static_cast<size_t>(begin / page_rows_)].slice(begin - first, end - first);
}

Tensor GrowingRows::new_page() const {
  return Tensor::empty({page_rows_, width_}, kept_, kCpu);
}

void GrowingRows::append(const Tensor& rows) {
  GF_CHECK(rows.size(-1) == width_, "rows of ", rows.size(-1), " numbers, not ", width_);
  const int64_t count = rows.numel() / width_;
  const Tensor from = rows.view({count, width_});
  for (int64_t taken = 0; taken < count;) {
    if (size_ == room()) pages_.push_back(new_page());
    const int64_t n = std::min(count - taken, room() - size_);
    convert(from.slice(taken, taken + n), part(size_, size_ + n));
    size_ += n, taken += n;
  }
}

Tensor GrowingRows::rows(int64_t begin, int64_t end) const {
  GF_CHECK(begin >= 0 && begin < end && end <= size_, "rows ", begin, " to ", end, " of ", size_);
  const DType dtype = computed_with(kept_);
  if (dtype == kept_ && end <= page_end(begin)) return part(begin, end);
  Tensor all = Tensor::empty({end - begin, width_}, dtype, kCpu);
  for (int64_t at = begin; at < end;) {
    const int64_t next = std::min(end, page_end(at));
    convert(part(at, next), all.slice(at - begin, next - begin));
    at = next;
  }
  return all;
}

GrowingRows GrowingRows::copy() const {
  GrowingRows other = *this;
  if (size_ == room()) return other;
  const int64_t full = size_ / page_rows_ * page_rows_;
  other.pages_.back() = new_page();
  convert(part(full, size_), other.part(full, size_));
  return other;
}

}  // namespace gf
