// SPDX-License-Identifier: Apache-2.0
#include "tensor/growing_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/process_memory.h"

namespace gf {
namespace {

// (count, 1): first, first + 1, ...
Tensor numbers(int32_t first, int64_t count) {
  Tensor t = Tensor::empty({count, 1}, DType::i32, kCpu);
  std::iota(t.data<int32_t>(), t.data<int32_t>() + count, first);
  return t;
}

void expect_numbers(const GrowingRows& rows, int64_t begin, int64_t end, int32_t first) {
  const Tensor got = rows.rows(begin, end);
  for (int64_t i = 0; i < end - begin; ++i) ASSERT_EQ(got.data<int32_t>()[i], first + i) << begin + i;
}

TEST(GrowingRows, TakeTheirBlocksOrAPage) {
  GrowingRows narrow(1, DType::u16), wide(32, DType::f32);
  EXPECT_EQ(narrow.bytes() + wide.bytes(), 0u);
  narrow.append(numbers(0, 1));
  EXPECT_EQ(narrow.bytes(), 4096u);
  narrow.append(numbers(1, 2047));
  EXPECT_EQ(narrow.bytes(), 4096u);
  narrow.append(numbers(2048, 1));
  EXPECT_EQ(narrow.bytes(), 8192u);
  expect_numbers(narrow, 0, 2049, 0);
  wide.append(Tensor::zeros({1, 32}, DType::f32, kCpu));
  EXPECT_EQ(wide.bytes(), 256u * 32 * 4);
}

// Whatever their width: less than a page more than is used, pages of whole blocks, and these whole pages of the system.
TEST(GrowingRows, TakeLessThanAPageMoreThanIsUsed) {
  for (const int64_t width : {1, 3, 12, 32, 128, 512})
    for (const DType kept : {DType::f32, DType::bf16}) {
      GrowingRows rows(width, kept);
      const int64_t row = width * static_cast<int64_t>(size_of(kept)), page = row * rows.page_rows();
      EXPECT_EQ(rows.page_rows() % GrowingRows::kBlock, 0) << width;
      EXPECT_EQ(page % 4096, 0) << width;
      EXPECT_LE(page, std::max<int64_t>(8 * 4096, 8 * GrowingRows::kBlock * row)) << width;
      const Tensor more = Tensor::zeros({1000, width}, DType::f32, kCpu);
      for (int64_t size = 1000; size <= 20000; size += 1000) {
        rows.append(more);
        const auto got = static_cast<int64_t>(rows.bytes());
        ASSERT_GE(got, size * row) << size << " rows of " << width;
        ASSERT_LT(got, size * row + page) << size << " rows of " << width;
      }
    }
}

#if !defined(GF_SANITIZED)  // whose heap is another
// Whatever tensors say of themselves: a byte a row is what none may come near to.
TEST(GrowingRows, TakeLittleBesideTheirPages) {
  const Tensor more = Tensor::zeros({1000, 32}, DType::f32, kCpu);
  const size_t before = allocated_bytes();
  GrowingRows rows(32, DType::f32);
  for (int i = 0; i < 100; ++i) rows.append(more);
  const size_t got = allocated_bytes() - before;
  EXPECT_GE(got, rows.bytes());
  EXPECT_LT(got, rows.bytes() + static_cast<size_t>(rows.size()));
}
#endif

TEST(GrowingRows, AreTheSameInWhateverPagesTheyLie) {
  GrowingRows narrow(1, DType::u16), whole(1, DType::i32);
  for (int64_t first = 0; first < 30000; first += 1000) {
    narrow.append(numbers(static_cast<int32_t>(first), 1000));
    whole.append(numbers(static_cast<int32_t>(first), 1000));
  }
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 30000}, {2047, 2049}, {4096, 8192}, {8000, 25000}}) {
    expect_numbers(narrow, begin, end, static_cast<int32_t>(begin));
    expect_numbers(whole, begin, end, static_cast<int32_t>(begin));
  }
}

// From within a page and from the end of one, the first and a later one.
TEST(GrowingRows, ACopyAndWhatItIsOfGrowByThemselves) {
  for (const int64_t common : {300, 256, 0, 2048, 2100, 4000, 8448, 9000}) {
    GrowingRows one(1, DType::u16);
    if (common > 0) one.append(numbers(0, common));
    GrowingRows other = one.copy();
    one.append(numbers(10000, 600));
    other.append(numbers(20000, 700));
    one.append(numbers(30000, 10));
    if (common > 0) expect_numbers(one, 0, common, 0);
    if (common > 0) expect_numbers(other, 0, common, 0);
    expect_numbers(one, common, common + 600, 10000);
    expect_numbers(other, common, common + 700, 20000);
    expect_numbers(one, common + 600, common + 610, 30000);
    GrowingRows third = other.copy();  // whose pages are a copy's
    third.append(numbers(15000, 9000));
    other.append(numbers(25000, 300));
    if (common > 0) expect_numbers(third, 0, common, 0);
    expect_numbers(third, common, common + 700, 20000);
    expect_numbers(third, common + 700, common + 9700, 15000);
    expect_numbers(other, common + 700, common + 1000, 25000);
  }
}

}  // namespace
}  // namespace gf
