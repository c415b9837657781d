// SPDX-License-Identifier: Apache-2.0
#include "tensor/growing_rows.h"

#include <bit>

#include "tensor/arithmetic.h"

namespace gf {
namespace {

DType computed_with(DType kept) {
  if (kept == DType::bf16) return DType::f32;
  return kept == DType::u16 ? DType::i32 : kept;
}

}  // namespace

size_t GrowingRows::bytes() const {
  return static_cast<size_t>(room() * width_) * size_of(kept_);
}

// The system gives no less than a page of its own at a time: one of narrow rows is of several blocks.
int64_t GrowingRows::fewest_blocks() const {
  constexpr size_t kSystemPage = 4096;
  const size_t block = static_cast<size_t>(kBlock * width_) * size_of(kept_);
  return static_cast<int64_t>((kSystemPage + block - 1) / block);
}

const GrowingRows::Page& GrowingRows::page_of(int64_t row) const {
  const auto after = [](int64_t r, const Page& page) { return r < page.first; };
  return *std::prev(std::upper_bound(pages_.begin(), pages_.end(), row, after));
}

Tensor GrowingRows::part(int64_t begin, int64_t end) const {
  const Page& page = page_of(begin);
  return page.rows.slice(begin - page.first, end - page.first);
}

void GrowingRows::add_page(int64_t blocks) {
  pages_.push_back({room(), Tensor::empty({blocks * kBlock, width_}, kept_, kCpu)});
}

void GrowingRows::append(const Tensor& rows) {
  GF_CHECK(rows.size(-1) == width_, "rows of ", rows.size(-1), " numbers, not ", width_);
  const int64_t count = rows.numel() / width_;
  const Tensor from = rows.view({count, width_});
  for (int64_t taken = 0; taken < count;) {
    if (size_ == room()) {
      const size_t row = static_cast<size_t>(width_) * size_of(kept_);
      const size_t most = std::bit_floor(std::min<size_t>(kMostRows, kMostBytes / row) / kBlock);
      const int64_t few = fewest_blocks();
      add_page(std::clamp(size_ / kBlock, few, std::max(few, static_cast<int64_t>(most))));
    }
    const int64_t n = std::min(count - taken, room() - size_);
    convert(from.slice(taken, taken + n), part(size_, size_ + n));
    size_ += n, taken += n;
  }
}

Tensor GrowingRows::rows(int64_t begin, int64_t end) const {
  GF_CHECK(begin >= 0 && begin < end && end <= size_, "rows ", begin, " to ", end, " of ", size_);
  const DType dtype = computed_with(kept_);
  if (dtype == kept_ && end <= page_of(begin).end()) return part(begin, end);
  Tensor all = Tensor::empty({end - begin, width_}, dtype, kCpu);
  for (int64_t at = begin; at < end;) {
    const int64_t next = std::min(end, page_of(at).end());
    convert(part(at, next), all.slice(at - begin, next - begin));
    at = next;
  }
  return all;
}

GrowingRows GrowingRows::copy() const {
  GrowingRows other = *this;
  if (size_ == room()) return other;
  // Of the last page only the full blocks stay, and what follows is its own.
  const int64_t full = size_ / kBlock * kBlock;
  const Page last = other.pages_.back();
  other.pages_.pop_back();
  if (full > last.first) other.pages_.push_back({last.first, last.rows.slice(0, full - last.first)});
  if (size_ == full) return other;
  other.add_page(fewest_blocks());
  convert(part(full, size_), other.part(full, size_));
  return other;
}

}  // namespace gf
