// SPDX-License-Identifier: Apache-2.0
#include "base/human.h"

#include <gtest/gtest.h>

#include <limits>

namespace gf {
namespace {

TEST(Human, CountsHaveThreeDigits) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(7), "7");
  EXPECT_EQ(human_count(3.4), "3.40");
  EXPECT_EQ(human_count(12.34), "12.3");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1000), "1.00k");
  EXPECT_EQ(human_count(5123), "5.12k");
  EXPECT_EQ(human_count(12.3e6), "12.3M");
  EXPECT_EQ(human_count(40e9), "40.0B");
  EXPECT_EQ(human_count(2.5e12), "2.50T");
  EXPECT_EQ(human_count(-1500), "-1.50k");
}

TEST(Human, CountsRoundIntoTheNextUnit) {
  EXPECT_EQ(human_count(9.996), "10.0");
  EXPECT_EQ(human_count(99.96), "100");
  EXPECT_EQ(human_count(999.7), "1.00k");
  EXPECT_EQ(human_count(999499), "999k");
  EXPECT_EQ(human_count(999500), "1.00M");
  EXPECT_EQ(human_count(2e15), "2000T");
}

TEST(Human, DurationsHaveTwoUnits) {
  EXPECT_EQ(human_duration(0), "0.00s");
  EXPECT_EQ(human_duration(0.254), "0.25s");
  EXPECT_EQ(human_duration(42), "42s");
  EXPECT_EQ(human_duration(185), "3m05s");
  EXPECT_EQ(human_duration(3725), "1h02m");
  EXPECT_EQ(human_duration(51 * 3600), "2d03h");
}

TEST(Human, DurationsNeverShowSixty) {
  EXPECT_EQ(human_duration(9.999), "10s");
  EXPECT_EQ(human_duration(59.7), "1m00s");
  EXPECT_EQ(human_duration(119.6), "2m00s");
  EXPECT_EQ(human_duration(3599.7), "1h00m");
  EXPECT_EQ(human_duration(24 * 3600 - 1), "1d00h");
}

TEST(Human, WhatIsNoNumberIsADash) {
  EXPECT_EQ(human_count(std::numeric_limits<double>::infinity()), "-");
  EXPECT_EQ(human_duration(std::numeric_limits<double>::quiet_NaN()), "-");
  EXPECT_EQ(human_duration(-1), "-");
}

TEST(Human, Bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.00 kB");
  EXPECT_EQ(human_bytes(1'540'000), "1.54 MB");
  EXPECT_EQ(human_bytes(999'960'000), "1.00 GB");
  EXPECT_EQ(human_bytes(20e9), "20.0 GB");
}

TEST(Human, Counted) {
  EXPECT_EQ(counted(0, "thread"), "0 threads");
  EXPECT_EQ(counted(1, "thread"), "1 thread");
  EXPECT_EQ(counted(2, "microbatch"), "2 microbatches");
}

}  // namespace
}  // namespace gf
