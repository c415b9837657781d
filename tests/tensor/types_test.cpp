// SPDX-License-Identifier: Apache-2.0
#include "tensor/types.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "support/expect_error.h"

namespace gf {
namespace {

TEST(Shape, CountsElements) {
  EXPECT_EQ((Shape{2, 3, 4}.numel()), 24);
  EXPECT_EQ(Shape{}.numel(), 1);
  EXPECT_EQ((Shape{5, 0, 7}.numel()), 0);
  EXPECT_EQ((Shape{int64_t{1} << 31, 4}.numel()), int64_t{1} << 33);
}

TEST(Shape, IndexesFromBothEnds) {
  const Shape s{2, 3, 4};
  EXPECT_EQ(s.rank(), 3);
  EXPECT_EQ(s[0], 2);
  EXPECT_EQ(s[2], 4);
  EXPECT_EQ(s[-1], 4);
  EXPECT_EQ(s[-3], 2);
  EXPECT_EQ((std::vector<int64_t>(s.dims().begin(), s.dims().end())), (std::vector<int64_t>{2, 3, 4}));
}

TEST(Shape, ComparesDimensionsAndRank) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_FALSE((Shape{2, 3} == Shape{3, 2}));
  EXPECT_FALSE((Shape{2, 3} == Shape{2, 3, 1}));
  EXPECT_FALSE((Shape{} == Shape{0}));
}

TEST(Shape, Prints) {
  EXPECT_EQ(cat(Shape{2, 3, 4}), "2x3x4");
  EXPECT_EQ(cat(Shape{7}), "7");
  EXPECT_EQ(cat(Shape{}), "scalar");
}

TEST(Shape, RejectsWhatCannotBe) {
  expect_error(Exit::failed, {"dimension 1", "-3"}, [] { Shape({2, -3}); });
  expect_error(Exit::failed, {"6 dimensions"}, [] { Shape({1, 1, 1, 1, 1, 1}); });
}

TEST(DType, SizesAndNames) {
  EXPECT_EQ(size_of(DType::f32), sizeof(float));
  EXPECT_EQ(size_of(DType::f64), sizeof(double));
  EXPECT_EQ(size_of(DType::i32), sizeof(int32_t));
  EXPECT_EQ(cat(DType::f32, " ", DType::f64, " ", DType::i32), "f32 f64 i32");
}

TEST(Device, ComparesAndPrints) {
  EXPECT_EQ(cat(kCpu, " ", kMeta, " ", Device{Device::Kind::cuda, 3}), "cpu meta cuda:3");
  EXPECT_FALSE((Device{Device::Kind::cuda, 0} == Device{Device::Kind::cuda, 1}));
  EXPECT_FALSE(kCpu == kMeta);
}

}  // namespace
}  // namespace gf
