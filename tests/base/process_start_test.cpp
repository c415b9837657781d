// SPDX-License-Identifier: Apache-2.0
#include "base/process_start.h"

#include <gtest/gtest.h>

#include "base/clock.h"

namespace gf {
namespace {

const double kLoaded = seconds_now();  // before main()

TEST(ProcessStart, IsBeforeMain) {
  constexpr double kTick = 0.01, kLongestLoad = 60;
  while (seconds_now() < kLoaded + 5 * kTick) {}  // so that now is another time
  EXPECT_LE(process_start(), kLoaded + kTick);
  EXPECT_GE(process_start(), kLoaded - kLongestLoad);
}

}  // namespace
}  // namespace gf
