// SPDX-License-Identifier: Apache-2.0
#include "train/run_clock.h"

#include <gtest/gtest.h>

#include <vector>

namespace gf {
namespace {

TrainConfig minutes(double save_every, double most) {
  TrainConfig t;
  t.save_every_minutes = save_every, t.max_minutes = most;
  return t;
}

// Steps of 10 s, a save every minute, which takes `save_s` to its end. `also`: a save that another setting asks for.
std::vector<int64_t> saved_steps(double save_s, int64_t also) {
  RunClock clock(minutes(1, 0), 0, 0, 0, 0);
  std::vector<int64_t> saves;
  double now = 0, end = 0;
  for (int64_t step = 1; step <= 20; ++step) {
    now += 10;
    const bool due = clock.save_due(now);
    if (due || step == also) saves.push_back(step), end = now + save_s;
    if (end > 0 && now >= end) clock.saved(save_s), end = 0;
    clock.stepped(now, 10, saves.empty() ? -1 : saves.back());
  }
  return saves;
}

// What is due after a minute is saved at the end of the step that is under way then.
TEST(RunClock, SavesOnceInEachPeriod) {
  EXPECT_EQ(saved_steps(0, -1), (std::vector<int64_t>{6, 12, 18}));
  EXPECT_EQ(saved_steps(45, -1), (std::vector<int64_t>{6, 12, 18}));
  EXPECT_EQ(saved_steps(1000, -1), (std::vector<int64_t>{6, 12, 18}));
  EXPECT_EQ(saved_steps(45, 4), (std::vector<int64_t>{4, 10, 16}));
}

TEST(RunClock, WithoutLimitsNothingIsDue) {
  const RunClock clock(minutes(0, 0), 0, 0, 1e9, 1e9);
  EXPECT_FALSE(clock.save_due(1e9));
  EXPECT_FALSE(clock.over(1e9, 2));
}

// The first moment, in whole seconds, at which it is over.
int over_at(const RunClock& clock, int validations = 0) {
  int now = 0;
  while (!clock.over(now, validations)) ++now;
  return now;
}

TEST(RunClock, LeavesTimeForAStepAndTwoSaves) {
  RunClock clock(minutes(0, 10), 100, 160, 20, 0);
  EXPECT_EQ(over_at(clock), 100 + 600 - 40) << "before the first step, from when the process began";
  clock.stepped(165, 5, -1);
  EXPECT_EQ(over_at(clock), 100 + 600 - 50);
  clock.saved(7);
  EXPECT_EQ(over_at(clock), 100 + 600 - 24) << "as it was measured";
  clock.saved(120);
  EXPECT_EQ(over_at(clock), 100 + 600 - 250) << "however much longer than was thought";
}

// Each save of half a minute on a slow disk, and a minute in all: what is left would not do for another one.
TEST(RunClock, ASaveThatTookMostOfTheTimeIsTheLast) {
  RunClock clock(minutes(0, 1), 0, 0, 0.001, 0);
  clock.stepped(1, 0.1, 1);
  EXPECT_FALSE(clock.over(26, 0)) << "nothing is known of it yet";
  clock.saved(25);
  EXPECT_TRUE(clock.over(26, 0));
}

// The step that is begun now is taken in any case, with its validation; the next one only if there is time for both.
TEST(RunClock, LeavesTimeForValidations) {
  RunClock clock(minutes(0, 10), 0, 0, 0, 8);
  EXPECT_EQ(over_at(clock, 1), 600) << "nothing is known yet";
  clock.stepped(5, 5, -1);
  EXPECT_EQ(over_at(clock), 600 - 10);
  EXPECT_EQ(over_at(clock, 1), 600 - 10 - 50) << "thought to take 8 steps";
  clock.validated(20);
  EXPECT_EQ(over_at(clock, 1), 600 - 10 - 25) << "as it was measured";
  EXPECT_EQ(over_at(clock, 2), 600 - 10 - 50);
  clock.validated(200);
  EXPECT_EQ(over_at(clock, 1), 600 - 10 - 250);
}

// What is only thought must not leave no time for steps.
TEST(RunClock, AValidationIsThoughtToTakeAnEighthOfTheTimeAtMost) {
  RunClock clock(minutes(0, 10), 0, 0, 0, 1000);
  clock.stepped(5, 5, -1);
  EXPECT_EQ(over_at(clock, 1), 497) << "600 - 10 - 1.25 * 75, the next whole second";
}

TEST(RunClock, ASaveIsThoughtToTakeSecondsForAGigabyte) {
  EXPECT_GE(longest_save(1e9), 5);
  EXPECT_LE(longest_save(1e9), 20);
}

}  // namespace
}  // namespace gf
