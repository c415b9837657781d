// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <fstream>
#include <thread>

namespace gf {
namespace {

// Puts the calling thread on the one core that `set` has.
void share_core(const cpu_set_t& set) {
  ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

// Some systems have no such file, and some write zeros to it.
bool system_tells() {
  std::ifstream file("/proc/thread-self/schedstat");
  int64_t ran_ns = 0;
  return file >> ran_ns && ran_ns > 0;
}

// Two threads that always could run, on one core.
TEST(Clock, TellsHowLongAThreadHadNoCore) {
  cpu_set_t core;
  CPU_ZERO(&core);
  CPU_SET(sched_getcpu(), &core);
  std::atomic<bool> done = false;
  bool told = false;
  double waited = 0, took = 0;
  std::jthread other([&] {
    share_core(core);
    while (!done) {}
  });
  std::jthread([&] {
    share_core(core);
    const Stopwatch watch;
    const double before = waited_for_core();
    while (waited < 0.001 && watch.seconds() < (told ? 60 : 1)) {
      waited = waited_for_core() - before;
      told = told || system_tells();
    }
    took = watch.seconds();
    done = true;
  }).join();
  if (!told) {
    EXPECT_EQ(waited, 0);
    return;
  }
  EXPECT_GE(waited, 0.001);
  EXPECT_LE(waited, took + 0.001) << "it is read a moment later";
}

}  // namespace
}  // namespace gf
