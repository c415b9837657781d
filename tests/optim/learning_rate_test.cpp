// SPDX-License-Identifier: Apache-2.0
#include "optim/learning_rate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/expect_error.h"

namespace gf {
namespace {

// 100 steps of 10 tokens, from 6e-4 to 2e-4.
Schedule schedule(Schedule::Decay decay) {
  Schedule s;
  s.decay = decay, s.lr_init = 6e-4, s.lr_final = 2e-4, s.tokens_per_step = 10, s.exit_tokens = 1000;
  s.weight_decay = 0.1;
  return s;
}

constexpr double kRounding = 1e-18;  // some roundings of 1e-16 relative to 6e-4

TEST(LearningRate, Cosine) {
  const Schedule s = schedule(Schedule::Decay::cos);
  EXPECT_NEAR(s.learning_rate(0), 6e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(50), 2e-4 + 4e-4 * std::sqrt(0.5), kRounding)
      << "a quarter wave: cos 45 degrees half way";
  EXPECT_NEAR(s.learning_rate(100), 2e-4, kRounding);
  // Steep at the end, not flat as a half wave would be.
  EXPECT_NEAR(s.learning_rate(99), 2e-4 + 4e-4 * 0.015707317311820675, kRounding);
}

TEST(LearningRate, Linear) {
  const Schedule s = schedule(Schedule::Decay::linear);
  for (const int64_t step : {0, 1, 25, 50, 99, 100})
    EXPECT_NEAR(s.learning_rate(step), 6e-4 - 4e-6 * static_cast<double>(step), kRounding);
}

TEST(LearningRate, Exponential) {
  const Schedule s = schedule(Schedule::Decay::exp);
  EXPECT_NEAR(s.learning_rate(0), 6e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(50), std::sqrt(6e-4 * 2e-4), kRounding) << "the geometric mean half way";
  EXPECT_NEAR(s.learning_rate(100), 2e-4, kRounding);
}

TEST(LearningRate, OneMinusSquareRoot) {
  const Schedule s = schedule(Schedule::Decay::one_minus_sqrt);
  EXPECT_NEAR(s.learning_rate(0), 6e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(25), 4e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(81), 2.4e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(100), 2e-4, kRounding);
}

TEST(LearningRate, StaysFinalAfterTheEnd) {
  for (const auto decay :
       {Schedule::Decay::cos, Schedule::Decay::linear, Schedule::Decay::exp, Schedule::Decay::one_minus_sqrt}) {
    EXPECT_NEAR(schedule(decay).learning_rate(101), 2e-4, kRounding);
    EXPECT_NEAR(schedule(decay).learning_rate(100000), 2e-4, kRounding);
  }
}

TEST(LearningRate, WarmsUpFromAFifth) {
  Schedule s = schedule(Schedule::Decay::linear);
  s.warmup_steps = 10;
  EXPECT_NEAR(s.learning_rate(0), 6e-4 * 0.2, kRounding);
  EXPECT_NEAR(s.learning_rate(5), 6e-4 * 0.6, kRounding);
  EXPECT_NEAR(s.learning_rate(9), 6e-4 * 0.92, kRounding);
  // The decay begins after the warm-up and has the rest of the run.
  EXPECT_NEAR(s.learning_rate(10), 6e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(55), 4e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(100), 2e-4, kRounding);
}

TEST(LearningRate, WaitsBeforeTheDecay) {
  Schedule s = schedule(Schedule::Decay::linear);
  s.wait = 0.5;
  EXPECT_NEAR(s.learning_rate(0), 6e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(50), 6e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(75), 4e-4, kRounding);
  EXPECT_NEAR(s.learning_rate(100), 2e-4, kRounding);
  s.warmup_steps = 10;  // both: the decay begins at step 60
  EXPECT_NEAR(s.progress(60), 0, 1e-15);
  EXPECT_NEAR(s.progress(80), 0.5, 1e-15);
}

TEST(LearningRate, AWaitForTheWholeRunNeverDecays) {
  Schedule s = schedule(Schedule::Decay::cos);
  s.wait = 1;
  EXPECT_NEAR(s.learning_rate(99), 6e-4, kRounding);
  EXPECT_EQ(s.progress(100), 1);
}

TEST(LearningRate, WeightDecayStaysOrGoesToItsEnd) {
  Schedule s = schedule(Schedule::Decay::cos);
  for (const double constant : {-1.0, 0.0}) {
    s.weight_decay_final = constant;
    EXPECT_EQ(s.weight_decay_at(0), 0.1);
    EXPECT_EQ(s.weight_decay_at(77), 0.1);
  }
  s.weight_decay_final = 0.001;
  EXPECT_NEAR(s.weight_decay_at(0), 0.1, 1e-16);
  EXPECT_NEAR(s.weight_decay_at(50), 0.01, 1e-16);
  EXPECT_NEAR(s.weight_decay_at(100), 0.001, 1e-17);
  s.weight_decay = 0;
  EXPECT_EQ(s.weight_decay_at(50), 0);
}

TEST(LearningRate, StepsToTheEnd) {
  Schedule s = schedule(Schedule::Decay::cos);
  EXPECT_EQ(s.steps(), 100);
  s.exit_tokens = 1001;
  EXPECT_EQ(s.steps(), 101) << "the last one goes beyond";
  s.exit_tokens = 1;
  EXPECT_EQ(s.steps(), 1);
  s.tokens_per_step = 131072, s.exit_tokens = 1498226207;
  EXPECT_EQ(s.steps(), 11431) << "the published run over minipile";
}

TEST(LearningRate, DecaysAreNamed) {
  EXPECT_EQ(Schedule::decay_named("cos"), Schedule::Decay::cos);
  EXPECT_EQ(Schedule::decay_named("linear"), Schedule::Decay::linear);
  EXPECT_EQ(Schedule::decay_named("exp"), Schedule::Decay::exp);
  EXPECT_EQ(Schedule::decay_named("oneminussqrt"), Schedule::Decay::one_minus_sqrt);
  expect_error(Exit::bad_input, {"\"cosine\"", "cos, linear, exp, oneminussqrt"},
               [] { Schedule::decay_named("cosine"); });
}

}  // namespace
}  // namespace gf
