// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <gtest/gtest.h>

namespace gf {
namespace {

TEST(Random, KnownHashes) {
  EXPECT_EQ(splitmix64(0), 0xE220A8397B1DCDAFull);  // the first output of Vigna's generator seeded with 0
  EXPECT_EQ(fnv1a64(""), 0xCBF29CE484222325ull);
  EXPECT_EQ(fnv1a64("a"), 0xAF63DC4C8601EC8Cull);
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  const Random random(7, "moments");
  constexpr int n = 100000;
  double u = 0, uu = 0, z = 0, zz = 0;
  for (int i = 0; i < n; ++i) {
    const double a = random.uniform(i), b = random.normal(i);
    ASSERT_TRUE(a >= -1 && a < 1);
    u += a / n, uu += a * a / n, z += b / n, zz += b * b / n;
  }
  // Five standard errors of each mean.
  EXPECT_NEAR(u, 0, 5 * std::sqrt(1.0 / 3 / n));
  EXPECT_NEAR(uu, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
  EXPECT_NEAR(z, 0, 5 * std::sqrt(1.0 / n));
  EXPECT_NEAR(zz, 1, 5 * std::sqrt(2.0 / n));
}

}  // namespace
}  // namespace gf
