// SPDX-License-Identifier: Apache-2.0
#include "tensor/growing_rows.h"

#include "tensor/arithmetic.h"

namespace gf {
namespace {

DType computed_with(DType kept) {
  if (kept == DType::bf16) return DType::f32;
  return kept == DType::u16 ? DType::i32 : kept;
}

}  // namespace

size_t GrowingRows::bytes() const {
  return blocks_.size() * static_cast<size_t>(kBlock * width_) * size_of(kept_);
}

Tensor GrowingRows::part(int64_t begin, int64_t end) const {
  const int64_t block = begin / kBlock, first = block * kBlock;
  return blocks_[static_cast<size_t>(block)].slice(begin - first, end - first);
}

// The system gives no less than a page at a time: one of narrow rows is of several blocks.
void GrowingRows::add_blocks() {
  constexpr size_t kPage = 4096;
  const size_t block = static_cast<size_t>(kBlock * width_) * size_of(kept_);
  const auto count = static_cast<int64_t>((kPage + block - 1) / block);
  const Tensor all = Tensor::empty({count * kBlock, width_}, kept_, kCpu);
  for (int64_t i = 0; i < count; ++i) blocks_.push_back(all.slice(i * kBlock, (i + 1) * kBlock));
}

void GrowingRows::append(const Tensor& rows) {
  GF_CHECK(rows.size(-1) == width_, "rows of ", rows.size(-1), " numbers, not ", width_);
  const int64_t count = rows.numel() / width_;
  const Tensor from = rows.view({count, width_});
  for (int64_t taken = 0; taken < count;) {
    if (size_ == std::ssize(blocks_) * kBlock) add_blocks();
    const int64_t n = std::min(count - taken, kBlock - size_ % kBlock);
    convert(from.slice(taken, taken + n), part(size_, size_ + n));
    size_ += n, taken += n;
  }
}

Tensor GrowingRows::rows(int64_t begin, int64_t end) const {
  GF_CHECK(begin >= 0 && begin < end && end <= size_, "rows ", begin, " to ", end, " of ", size_);
  const DType dtype = computed_with(kept_);
  if (dtype == kept_ && begin / kBlock == (end - 1) / kBlock) return part(begin, end);
  Tensor all = Tensor::empty({end - begin, width_}, dtype, kCpu);
  for (int64_t at = begin; at < end;) {
    const int64_t next = std::min(end, (at / kBlock + 1) * kBlock);
    convert(part(at, next), all.slice(at - begin, next - begin));
    at = next;
  }
  return all;
}

GrowingRows GrowingRows::copy() const {
  GrowingRows other = *this;
  other.blocks_.resize(static_cast<size_t>((size_ + kBlock - 1) / kBlock));
  if (size_ % kBlock == 0) return other;
  Tensor& last = other.blocks_.back();
  last = Tensor::empty(last.shape(), kept_, kCpu);
  const int64_t first = size_ / kBlock * kBlock;
  convert(part(first, size_), other.part(first, size_));
  return other;
}

}  // namespace gf
