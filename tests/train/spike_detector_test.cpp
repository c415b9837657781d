// SPDX-License-Identifier: Apache-2.0
#include "train/spike_detector.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace gf {
namespace {

using testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

// Losses and norms that go up and down by a tenth around 2 and 1.
SpikeDetector after(int64_t steps, double z, int64_t window) {
  SpikeDetector detector(z, window);
  for (int64_t i = 0; i < steps; ++i) detector.add({2 + (i % 2 ? 0.1 : -0.1), i % 2 ? 1.1 : 1 / 1.1});
  return detector;
}

TEST(SpikeDetector, WhatIsNotFiniteIsAlwaysBad) {
  const SpikeDetector off(0, 100);
  EXPECT_EQ(off.judge({kNan, 1}), "the loss is nan");
  EXPECT_EQ(off.judge({-kNan, 1}), "the loss is nan");
  EXPECT_EQ(off.judge({kInfinity, kNan}), "the loss is infinite");
  EXPECT_EQ(off.judge({2, kNan}), "the loss is 2, the gradient's norm nan");
  EXPECT_EQ(off.judge({1e30, 1e30}), "");
}

TEST(SpikeDetector, ASpikeIsFarAboveTheStepsBefore) {
  const SpikeDetector detector = after(40, 4, 40);
  EXPECT_EQ(detector.judge({2.39, 1}), "");
  EXPECT_THAT(detector.judge({2.42, 1}), HasSubstr("the loss is 2.42, more than 4 standard deviations"));
  EXPECT_EQ(detector.judge({2, std::pow(1.1, 3.9)}), "");
  EXPECT_THAT(detector.judge({2, std::pow(1.1, 4.2)}), HasSubstr("the gradient's norm is 1.49"));
  EXPECT_EQ(detector.judge({-100, 1e-9}), "") << "below is no spike";
  EXPECT_EQ(after(40, 0, 40).judge({100, 100}), "") << "off";
}

TEST(SpikeDetector, NeedsEnoughStepsToCompareWith) {
  EXPECT_EQ(after(SpikeDetector::kLeast - 1, 4, 40).judge({100, 1}), "");
  EXPECT_NE(after(SpikeDetector::kLeast, 4, 40).judge({100, 1}), "");
  EXPECT_NE(after(10, 4, 10).judge({100, 1}), "") << "a shorter window is full";
}

TEST(SpikeDetector, ForgetsWhatIsBeforeTheWindow) {
  SpikeDetector detector(4, 20);
  for (int i = 0; i < 20; ++i) detector.add({100.0 + i % 2, 100});
  for (int i = 0; i < 20; ++i) detector.add({2 + 0.1 * (i % 2), 1 + 0.1 * (i % 2)});
  EXPECT_NE(detector.judge({3, 1}), "");
}

// Steps that do not differ at all have no deviation.
TEST(SpikeDetector, ASmallRiseIsNone) {
  SpikeDetector detector(4, 20);
  for (int i = 0; i < 20; ++i) detector.add({2, 1});
  EXPECT_EQ(detector.judge({2.019, 1.009}), "");
  EXPECT_NE(detector.judge({2.021, 1}), "");
}

}  // namespace
}  // namespace gf
