// SPDX-License-Identifier: Apache-2.0
#include "parallel/hang_watch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>

namespace gf {
namespace {

struct Told {
  std::promise<std::string> what;
  HangWatch::Hung hung() {
    return [this](const std::string& said) { what.set_value(said); };
  }
};

// Without the time.
std::string doing(const std::string& said) {
  const std::string begin = "has been at this for ";
  EXPECT_TRUE(said.starts_with(begin)) << said;
  return said.substr(said.find(": ") + 2);
}

TEST(HangWatchThreads, SaysWhatHangs) {
  Told told;
  auto said = told.what.get_future();
  HangWatch watch(0.01, told.hung());
  const HangWatch::Doing step(&watch, "step 3"), pass(&watch, "forward of microbatch 1");
  EXPECT_EQ(doing(said.get()), "step 3, forward of microbatch 1");
}

TEST(HangWatchThreads, WhatHasEndedDoesNotHang) {
  Told told;
  auto said = told.what.get_future();
  HangWatch watch(0.01, told.hung());
  const HangWatch::Doing step(&watch, "step 3");
  { const HangWatch::Doing pass(&watch, "forward of microbatch 1"); }
  EXPECT_EQ(doing(said.get()), "step 3");
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
  EXPECT_EQ(doing(said.get()), "writing");
  end.set_value();
}

// Whatever thread it comes from.
TEST(HangWatchThreads, WhatGivesSignsDoesNotHang) {
  Told told;
  auto said = told.what.get_future();
  HangWatch watch(1, told.hung());
  const HangWatch::Doing pass(&watch, "a pass");
  std::promise<void> end;
  std::jthread hangs([&] {
    const HangWatch::Doing writing(&watch, "writing");
    end.get_future().wait();
  });
  std::jthread helps([&, main = std::this_thread::get_id()](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      watch.touch();  // nothing: this one does nothing that is watched
      watch.touch(main);
    }
  });
  EXPECT_EQ(doing(said.get()), "writing");
  end.set_value();
}

TEST(HangWatchThreads, TheLimitMayComeLater) {
  Told told;
  auto said = told.what.get_future();
  HangWatch watch(1e6, told.hung());
  const HangWatch::Doing start(&watch, "the start");
  watch.set_limit(0.01);
  EXPECT_EQ(doing(said.get()), "the start");
}

// Ctrl-Z, or a queue that suspends jobs: nobody was there to give a sign.
TEST(HangWatchThreads, TimeInWhichTheProcessWasStoppedDoesNotCount) {
  Told told;
  auto said = told.what.get_future();
  std::atomic<double> stopped = 0;
  HangWatch watch(0.5, told.hung(), [&] { return seconds_now() + stopped; });
  const HangWatch::Doing step(&watch, "step 3");
  stopped = 1000;
  const std::string what = said.get();
  EXPECT_EQ(doing(what), "step 3");
  EXPECT_TRUE(what.starts_with("has been at this for 0.") || what.starts_with("has been at this for 1.")) << what;
}

struct Gpu final : HangWatch::Witness {
  std::string doing() override { return waits_for; }
  std::string broken() override { return fault; }
  std::string waits_for, fault;
};

TEST(HangWatchThreads, SaysWhatAWitnessKnowsToBeUnderWay) {
  Told told;
  auto said = told.what.get_future();
  const auto gpu = std::make_shared<Gpu>(), idle = std::make_shared<Gpu>();
  gpu->waits_for = "the GPU waits for rank 1";
  HangWatch watch(0.01, told.hung());
  watch.add_witness(idle);
  watch.add_witness(std::make_shared<Gpu>());  // gone already
  watch.add_witness(gpu);
  const HangWatch::Doing step(&watch, "step 3");
  EXPECT_EQ(doing(said.get()), "step 3; the GPU waits for rank 1");
}

TEST(HangWatchThreads, WhatIsBrokenIsSaidAtOnce) {
  Told told;
  auto said = told.what.get_future();
  const auto gpu = std::make_shared<Gpu>();
  gpu->fault = "NCCL: a rank has gone";
  HangWatch watch(1e6, told.hung());
  watch.add_witness(gpu);
  EXPECT_EQ(said.get(), "NCCL: a rank has gone");
}

TEST(HangWatchThreads, NothingIsDoneAndNobodyWatches) {
  bool told = false;
  {
    HangWatch watch(0, [&](const std::string&) { told = true; });
  }
  EXPECT_FALSE(told);
  const HangWatch::Doing unwatched(nullptr, "anything");
}

}  // namespace
}  // namespace gf
