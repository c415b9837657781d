// SPDX-License-Identifier: Apache-2.0
#include "tensor/arithmetic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/random.h"
#include "support/bits.h"
#include "support/expect_error.h"
#include "support/threads.h"

namespace gf {
namespace {

// Longer than two of the runs that kernels share out, and odd.
constexpr int64_t kLong = 2 * (1 << 15) + 37;

template <class T>
Tensor hashed(const char* name, int64_t n) {
  const Random random(1, name);
  Tensor t = Tensor::empty({n}, dtype_of<T>, kCpu);
  for (int64_t i = 0; i < n; ++i) t.data<T>()[i] = static_cast<T>(random.uniform(static_cast<uint64_t>(i)));
  return t;
}

template <class T>
class Arithmetic : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(Arithmetic, Reals);

TYPED_TEST(Arithmetic, FillsAndCopies) {
  using T = TypeParam;
  const Tensor t = hashed<T>("a", kLong), other = Tensor::empty({kLong}, dtype_of<T>, kCpu);
  copy(t, other);
  EXPECT_TRUE(same_bits(t, other));
  fill(t, 0.25);
  for (int64_t i = 0; i < kLong; ++i) ASSERT_EQ(t.data<T>()[i], T(0.25));
  fill_zero(t);
  for (int64_t i = 0; i < kLong; ++i) ASSERT_EQ(t.data<T>()[i], T(0));
}

TYPED_TEST(Arithmetic, AddsAndScales) {
  using T = TypeParam;
  const Tensor a = hashed<T>("a", kLong), b = hashed<T>("b", kLong), out = Tensor::empty({kLong}, dtype_of<T>, kCpu);
  add(a, b, out);
  for (int64_t i = 0; i < kLong; ++i) ASSERT_EQ(out.data<T>()[i], a.data<T>()[i] + b.data<T>()[i]);
  const Tensor sum = clone(a);
  add_to(sum, b);
  EXPECT_TRUE(same_bits(sum, out));
  scale(sum, -0.5);
  for (int64_t i = 0; i < kLong; ++i) ASSERT_EQ(sum.data<T>()[i], T(-0.5) * out.data<T>()[i]);
}

TYPED_TEST(Arithmetic, SquaresAreSummedInDouble) {
  using T = TypeParam;
  const Tensor t = hashed<T>("a", kLong);
  long double want = 0;
  for (int64_t i = 0; i < kLong; ++i) want += static_cast<long double>(t.data<T>()[i]) * t.data<T>()[i];
  // 65573 terms of one sign in double, at most 2^15 in one chain of additions: 2^15 * 2^-53 is 4e-12.
  EXPECT_NEAR(sum_of_squares(t), static_cast<double>(want), 4e-12 * static_cast<double>(want));
  EXPECT_EQ(sum_of_squares(t.range(0, 0)), 0.0);
}

TYPED_TEST(Arithmetic, SameBitsOnOneAndManyCores) {
  using T = TypeParam;
  const Tensor a = hashed<T>("a", kLong), b = hashed<T>("b", kLong);
  const auto all = [&](int threads) {
    const Threads n(threads);
    const Tensor t = clone(a);
    add_to(t, b);
    scale(t, 0.3);
    return std::pair(t, sum_of_squares(t));
  };
  const auto [one, square_one] = all(1);
  const auto [two, square_two] = all(2);
  EXPECT_TRUE(same_bits(one, two));
  EXPECT_EQ(square_one, square_two);
}

TYPED_TEST(Arithmetic, NaNStays) {
  using T = TypeParam;
  const Tensor t = hashed<T>("a", 100), zero = Tensor::zeros({100}, dtype_of<T>, kCpu);
  t.data<T>()[77] = std::numeric_limits<T>::quiet_NaN();
  EXPECT_TRUE(std::isnan(sum_of_squares(t)));
  scale(t, 0);
  EXPECT_TRUE(std::isnan(t.data<T>()[77]));
  add_to(zero, t);
  EXPECT_TRUE(std::isnan(zero.data<T>()[77]));
}

TEST(Arithmetic, LargeFloatsDoNotOverflowTheSum) {
  const Tensor t = Tensor::of<float>({2}, {3e30F, 4e30F});
  EXPECT_NEAR(std::sqrt(sum_of_squares(t)), 5e30, 1e24);  // 3e30 and 4e30 themselves are rounded to 24 bits
}

TEST(Arithmetic, SaysWhatDiffers) {
  const Tensor a = hashed<float>("a", 4), b = hashed<float>("b", 5), d = hashed<double>("a", 4);
  expect_error(Exit::failed, {"add", "4", "5"}, [&] { add_to(a, b); });
  expect_error(Exit::failed, {"copy", "f32", "f64"}, [&] { copy(a, d); });
  expect_error(Exit::failed, {"i32"}, [] { scale(Tensor::zeros({2}, DType::i32, kCpu), 2); });
}

TEST(Arithmetic, MetaIsLeftAlone) {
  const Tensor t = Tensor::empty({int64_t{1} << 40}, DType::f32, kMeta);
  fill(t, 1);
  scale(t, 2);
  add_to(t, t);
  EXPECT_EQ(sum_of_squares(t), 0.0);
}

}  // namespace
}  // namespace gf
