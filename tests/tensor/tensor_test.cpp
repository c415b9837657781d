// SPDX-License-Identifier: Apache-2.0
#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace gf {
namespace {

Tensor counted(Shape shape) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return Tensor::of(shape, values);
}

TEST(Tensor, IsEmptyUntilMade) {
  EXPECT_FALSE(Tensor());
  EXPECT_TRUE(Tensor::empty({2}, DType::f32, kCpu));
  EXPECT_TRUE(Tensor::empty({0}, DType::f32, kCpu)) << "without elements, and yet a tensor";
}

TEST(Tensor, ZerosAreZero) {
  const Tensor t = Tensor::zeros({3, 5}, DType::f64, kCpu);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(t.data<double>()[i], 0.0);
  EXPECT_EQ(t.bytes(), 120u);
}

TEST(Tensor, CopyAndViewShareMemory) {
  const Tensor t = counted({2, 6});
  const Tensor same = t, wide = t.view({3, 2, 2});
  t.data<float>()[7] = 100;
  EXPECT_EQ(same.data<float>()[7], 100);
  EXPECT_EQ(wide.data<float>()[7], 100);
  EXPECT_EQ(wide.shape(), (Shape{3, 2, 2}));
  expect_error(Exit::failed, {"2x6", "5x2"}, [&] { t.view({5, 2}); });
}

TEST(Tensor, SliceTakesRows) {
  const Tensor t = counted({4, 3, 2}), s = t.slice(1, 3);
  EXPECT_EQ(s.shape(), (Shape{2, 3, 2}));
  EXPECT_EQ(s.data<float>()[0], 6);
  EXPECT_EQ(s.slice(1, 2).data<float>()[5], 17);
  EXPECT_EQ(t.slice(4, 4).numel(), 0);
  expect_error(Exit::failed, {"slice 2 to 5", "4x3x2"}, [&] { t.slice(2, 5); });
  expect_error(Exit::failed, {"slice -1 to 2"}, [&] { t.slice(-1, 2); });
  expect_error(Exit::failed, {"slice 3 to 2"}, [&] { t.slice(3, 2); });
}

TEST(Tensor, RangeTakesElements) {
  const Tensor t = counted({4, 3}), r = t.range(5, 9);
  EXPECT_EQ(r.shape(), Shape{4});
  EXPECT_EQ(r.data<float>()[0], 5);
  EXPECT_EQ(t.range(12, 12).numel(), 0);
  expect_error(Exit::failed, {"5 to 13", "4x3"}, [&] { t.range(5, 13); });
}

TEST(Tensor, IsReadAsWhatItIs) {
  const Tensor t = counted({2});
  expect_error(Exit::failed, {"f32", "f64"}, [&] { t.data<double>(); });
  expect_error(Exit::failed, {"f32", "i32"}, [&] { t.data<int32_t>(); });
  expect_error(Exit::failed, {"3 values", "2x2"}, [] { Tensor::of<float>({2, 2}, {1, 2, 3}); });
}

TEST(Tensor, KnowsWhetherItIsAlone) {
  Tensor t = counted({2, 3});
  EXPECT_TRUE(t.sole_owner());
  {
    const Tensor piece = t.range(1, 2);
    EXPECT_FALSE(t.sole_owner()) << "a view of a part counts";
    EXPECT_FALSE(piece.sole_owner());
  }
  EXPECT_TRUE(t.sole_owner());
}

TEST(Tensor, MemoryLivesAsLongAsAnyView) {
  Tensor last = counted({4, 3}).slice(3, 4);
  EXPECT_TRUE(last.sole_owner());
  EXPECT_EQ(last.data<float>()[2], 11);
}

TEST(Tensor, CheckShapeNamesBoth) {
  expect_error(Exit::failed, {"op", "weight", "2x3", "3x2"}, [] {
    check_shape("op", "weight", counted({2, 3}), {3, 2});
  });
  EXPECT_NO_THROW(check_shape("op", "weight", counted({2, 3}), {2, 3}));
}

TEST(Tensor, MetaTensorsTakeNoMemory) {
  const Tensor t = Tensor::zeros({int64_t{1} << 40}, DType::f64, kMeta);  // 8 TiB
  EXPECT_EQ(t.bytes(), size_t{1} << 43);
  EXPECT_EQ(t.slice(5, 7).numel(), 2);
}

TEST(Tensor, MemoryThatCannotBeHadIsSaid) {
  expect_error(Exit::failed, {"4294967296 MiB"}, [] { Tensor::empty({int64_t{1} << 50}, DType::f32, kCpu); });
}

}  // namespace
}  // namespace gf
