// SPDX-License-Identifier: Apache-2.0
#include "tools/command_line.h"

#include <gtest/gtest.h>

#include <new>
#include <regex>

#include "base/out_of_memory.h"

namespace gf {
namespace {

// How the body ends, as the program that does so says it.
std::string said(const std::function<int()>& body, Exit status) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_main("gf test", "less of it", body), static_cast<int>(status));
  return testing::internal::GetCapturedStderr();
}

TEST(RunMain, SaysOnceHowABodyEnded) {
  EXPECT_EQ(said([] { return 0; }, Exit::done), "");
  EXPECT_EQ(said([]() -> int { refuse("wrong", "right"); }, Exit::bad_input), "gf test: wrong\n  try: right\n");
  EXPECT_EQ(said([]() -> int { throw std::runtime_error("odd"); }, Exit::failed), "gf test: odd\n");
}

TEST(RunMain, GivesEachProgramItsOwnHintWhereMemoryRanOut) {
  const std::string of_new = said([]() -> int { throw std::bad_alloc(); }, Exit::failed);
  EXPECT_TRUE(
      std::regex_match(of_new, std::regex("gf test: out of memory, with [0-9.]+ [MG]B in use\n  try: less of it\n")))
      << of_new;
  const std::string of_an_arena = said([]() -> int { throw OutOfMemory("cannot get 3 MiB"); }, Exit::failed);
  EXPECT_TRUE(of_an_arena.starts_with("gf test: cannot get 3 MiB\n  try: less of it\n")) << of_an_arena;
}

}  // namespace
}  // namespace gf
