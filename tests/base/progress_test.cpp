// SPDX-License-Identifier: Apache-2.0
#include "base/progress.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace gf {
namespace {

TEST(Progress, SaysShareRateAndTimeLeft) {
  Progress progress("tokenize", 4'000'000'000);
  progress.advance(1'000'000'000);
  EXPECT_EQ(progress.line(10), "tokenize   25%  1.00 GB of 4.00 GB  100 MB/s  30s left");
  progress.advance(3'500'000'000);  // more than there was at first
  EXPECT_EQ(progress.line(45), "tokenize  100%  4.50 GB of 4.00 GB  100 MB/s");
}

TEST(Progress, WithoutATotalOrTime) {
  Progress progress("read", 0);
  EXPECT_EQ(progress.line(0), "read  0 B  0 B/s");
  progress.advance(5000);
  EXPECT_EQ(progress.line(2), "read  5.00 kB  2.50 kB/s");
}

TEST(Progress, CountsOtherThingsThanBytes) {
  Progress progress("eval", 1'000'000, stderr, "tokens");
  progress.advance(250'000);
  EXPECT_EQ(progress.line(5), "eval   25%  250k tokens of 1.00M tokens  50.0k tokens/s  15s left");
}

TEST(Progress, WritesNothingWhereThereIsNoTerminal) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  {
    Progress progress("x", 10, file);
    progress.advance(10);
  }
  EXPECT_EQ(std::ftell(file), 0);
  std::fclose(file);
}

}  // namespace
}  // namespace gf
