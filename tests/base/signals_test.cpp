// SPDX-License-Identifier: Apache-2.0
#include "base/signals.h"

#include <gtest/gtest.h>

#include <csignal>

namespace gf {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGHUP, SIGINT};

struct sigaction action_of(int number) {
  struct sigaction action {};
  sigaction(number, nullptr, &action);
  return action;
}

TEST(Signals, AreTakenNoteOf) {
  for (const int number : kSignals) {
    const StopSignal stop;
    EXPECT_EQ(stop.received(), 0);
    std::raise(number);
    EXPECT_EQ(stop.received(), number);
  }
}

// The stack pointer may be anywhere when a signal comes (base/signals.cpp says why).
TEST(Signals, HandlersHaveAStackOfTheirOwn) {
  const StopSignal stop;
  for (const int number : kSignals) EXPECT_TRUE(action_of(number).sa_flags & SA_ONSTACK) << number;
  stack_t stack{};
  ASSERT_EQ(sigaltstack(nullptr, &stack), 0);
  EXPECT_FALSE(stack.ss_flags & SS_DISABLE);
  EXPECT_GE(stack.ss_size, size_t{1} << 16);  // a frame with AVX-512 and AMX registers takes 12 KiB
}

TEST(Signals, HandlersAndStackGoWithTheObject) {
  stack_t before{}, after{};
  ASSERT_EQ(sigaltstack(nullptr, &before), 0);
  { const StopSignal stop; }
  ASSERT_EQ(sigaltstack(nullptr, &after), 0);
  EXPECT_EQ(after.ss_sp, before.ss_sp);
  for (const int number : kSignals) EXPECT_EQ(action_of(number).sa_handler, SIG_DFL) << number;
}

TEST(Signals, WhatNohupTurnedOffStaysOff) {
  std::signal(SIGHUP, SIG_IGN);
  {
    const StopSignal stop;
    std::raise(SIGHUP);
    EXPECT_EQ(stop.received(), 0);
  }
  std::signal(SIGHUP, SIG_DFL);
}

TEST(Signals, HaveTheirNames) {
  const StopSignal stop;
  std::raise(SIGUSR1);
  EXPECT_EQ(stop.name(), "SIGUSR1");
}

// The second Ctrl-C of somebody who does not want to wait.
TEST(SignalsDeathTest, ASecondInterruptEndsTheProcess) {
  EXPECT_EXIT(
      {
        const StopSignal stop;
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace gf
