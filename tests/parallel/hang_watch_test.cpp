// SPDX-License-Identifier: Apache-2.0
#include "parallel/hang_watch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>

namespace gf {
namespace {

struct Told {
  std::promise<std::string> what;
  HangWatch::Hung hung() {
    return [this](const std::string& doing, double) { what.set_value(doing); };
  }
};

TEST(HangWatchThreads, SaysWhatHangs) {
  Told told;
  auto said = told.what.get_future();
  HangWatch watch(0.01, told.hung());
  const HangWatch::Doing step(&watch, "step 3"), pass(&watch, "forward of microbatch 1");
  EXPECT_EQ(said.get(), "step 3, forward of microbatch 1");
}

TEST(HangWatchThreads, WhatHasEndedDoesNotHang) {
  Told told;
  auto said = told.what.get_future();
  HangWatch watch(0.01, told.hung());
  const HangWatch::Doing step(&watch, "step 3");
  { const HangWatch::Doing pass(&watch, "forward of microbatch 1"); }
  EXPECT_EQ(said.get(), "step 3");
}

// A thread at work hides no other that hangs.
TEST(HangWatchThreads, EachThreadIsWatched) {
  Told told;
  auto said = told.what.get_future();
  HangWatch watch(0.01, told.hung());
  std::promise<void> end;
  std::jthread hangs([&] {
    const HangWatch::Doing writing(&watch, "writing");
    end.get_future().wait();
  });
  while (said.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    const HangWatch::Doing pass(&watch, "a pass");
  }
  EXPECT_EQ(said.get(), "writing");
  end.set_value();
}

TEST(HangWatchThreads, NothingIsDoneAndNobodyWatches) {
  bool told = false;
  {
    HangWatch watch(0, [&](const std::string&, double) { told = true; });
  }
  EXPECT_FALSE(told);
  const HangWatch::Doing unwatched(nullptr, "anything");
}

}  // namespace
}  // namespace gf
