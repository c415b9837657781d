// SPDX-License-Identifier: Apache-2.0
#include "base/progress.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace gf {
namespace {

TEST(Human, Bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.0 kB");
  EXPECT_EQ(human_bytes(1'540'000), "1.5 MB");
  EXPECT_EQ(human_bytes(999'960'000), "1.0 GB");
  EXPECT_EQ(human_bytes(20e9), "20.0 GB");
  EXPECT_EQ(human_bytes(7e16), "70000 TB");
}

TEST(Human, Seconds) {
  EXPECT_EQ(human_seconds(0.2), "0 s");
  EXPECT_EQ(human_seconds(59.6), "1 min 0 s");
  EXPECT_EQ(human_seconds(125), "2 min 5 s");
  EXPECT_EQ(human_seconds(3600 * 50 + 61), "50 h 1 min");
}

TEST(Progress, SaysShareRateAndTimeLeft) {
  Progress progress("tokenize", 4'000'000'000);
  progress.advance(1'000'000'000);
  EXPECT_EQ(progress.line(10), "tokenize   25%  1.0 GB of 4.0 GB  100 MB/s  30 s left");
  progress.advance(3'500'000'000);  // more than there was at first
  EXPECT_EQ(progress.line(45), "tokenize  100%  4.5 GB of 4.0 GB  100 MB/s");
}

TEST(Progress, WithoutATotalOrTime) {
  Progress progress("read", 0);
  EXPECT_EQ(progress.line(0), "read  0 B  0 B/s");
  progress.advance(5000);
  EXPECT_EQ(progress.line(2), "read  5.0 kB  2.5 kB/s");
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
