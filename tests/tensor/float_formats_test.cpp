// SPDX-License-Identifier: Apache-2.0
#include "tensor/float_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace gf {
namespace {

// The value of a small float format by its definition, in double.
double value_of(uint16_t bits, int mantissa_bits, int bias) {
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int exponent = (bits & 0x7fff) >> mantissa_bits;
  const double one = 1 << mantissa_bits;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa / one, 1 - bias) : std::ldexp(1 + mantissa / one, exponent - bias);
  return bits & 0x8000 ? -magnitude : magnitude;
}

struct Small {
  float (*widen)(uint16_t);
  uint16_t (*narrow)(float);
  int mantissa_bits, bias;
  uint16_t infinity;
};
const Small kSmall[] = {{float_from_bf16, bf16_from_float, 7, 127, 0x7f80},
                        {float_from_f16, f16_from_float, 10, 15, 0x7c00}};

TEST(FloatFormats, EveryValueIsWidenedByDefinitionAndComesBack) {
  for (const Small& f : kSmall)
    for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
      const auto x = static_cast<uint16_t>(bits);
      const float wide = f.widen(x);
      if ((x & 0x7fff) > f.infinity) {
        ASSERT_TRUE(std::isnan(wide));
        const uint16_t back = f.narrow(wide);
        ASSERT_GT(back & 0x7fff, f.infinity) << x;
      } else {
        if ((x & 0x7fff) == f.infinity)
          ASSERT_TRUE(std::isinf(wide));
        else
          ASSERT_EQ(static_cast<double>(wide), value_of(x, f.mantissa_bits, f.bias)) << x;
        ASSERT_EQ(f.narrow(wide), x);
      }
    }
}

TEST(FloatFormats, RoundToNearestTiesToEven) {
  for (const Small& f : kSmall)
    for (uint16_t x = 0; x + 1 < f.infinity; ++x) {
      const float low = f.widen(x), high = f.widen(static_cast<uint16_t>(x + 1));
      const float middle = low + (high - low) / 2;  // exact: one bit more
      ASSERT_EQ(f.narrow(middle), x % 2 == 0 ? x : x + 1) << x;
      ASSERT_EQ(f.narrow(std::nextafter(middle, 0.f)), x) << x;
      ASSERT_EQ(f.narrow(std::nextafter(middle, high)), x + 1) << x;
      ASSERT_EQ(f.narrow(-middle), 0x8000 | (x % 2 == 0 ? x : x + 1)) << x;
    }
}

TEST(FloatFormats, TooLargeBecomesInfinite) {
  EXPECT_EQ(f16_from_float(65519.996f), 0x7bff);
  EXPECT_EQ(f16_from_float(65520.f), 0x7c00);
  EXPECT_EQ(f16_from_float(-1e30f), 0xfc00);
  EXPECT_EQ(bf16_from_float(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace gf
