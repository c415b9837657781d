// SPDX-License-Identifier: Apache-2.0
#include "tensor/growing_rows.h"

#include <gtest/gtest.h>

#include <numeric>

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

// From within a block and from the end of one, with blocks of the same page after it.
TEST(GrowingRows, ACopyAndWhatItIsOfGrowByThemselves) {
  for (const int64_t common : {300, 256, 0}) {
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
  }
}

}  // namespace
}  // namespace gf
