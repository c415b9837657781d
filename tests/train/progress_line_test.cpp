// SPDX-License-Identifier: Apache-2.0
#include "train/progress_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace gf {
namespace {

using testing::ContainsRegex;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A stream, a clock and a width to turn by hand.
struct Screen {
  std::ostringstream stream;
  double time = 100;
  int width = 120;

  ProgressOutput output(bool live) {
    return {.stream = stream, .live = live, .width = [this] { return width; }, .now = [this] { return time; }};
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    std::istringstream in(stream.str());
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }
  // What the terminal shows at the end: all that follows the last clearing of a line.
  std::string live_line() const {
    const std::string all = stream.str();
    return all.substr(all.rfind("\x1b[K") + 3);
  }
};

StepMetrics step(int64_t number, double loss = 2.5, double seconds = 2) {
  return {.step = number,
          .tokens = (number + 1) * 4096,
          .loss = loss,
          .grad_norm = 0.5341,
          .lr = 0.00012,
          .step_s = seconds,
          .tokens_per_s = 4096 / seconds,
          .val_loss = {},
          .val_acc = {}};
}

TEST(ProgressLine, ALogHasItsFirstEveryNthAndLastStep) {
  Screen screen;
  ProgressLine progress(screen.output(false), 25, 25 * 4096, 10);
  for (int i = 0; i < 25; ++i) progress.step(step(i));
  const auto lines = screen.lines();
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[0], StartsWith("step  1/25"));
  EXPECT_THAT(lines[1], StartsWith("step 10/25"));
  EXPECT_THAT(lines[2], StartsWith("step 20/25"));
  EXPECT_THAT(lines[3], StartsWith("step 25/25"));
  EXPECT_THAT(screen.stream.str(), Not(HasSubstr("\r")));
}

TEST(ProgressLine, ALogLineHasAllFieldsWhateverTheWidth) {
  Screen screen;
  screen.width = 10;
  ProgressLine progress(screen.output(false), 1801, 1801 * 4096, 10);
  screen.time += 2;
  progress.step(step(0));
  EXPECT_EQ(screen.lines().at(0),
            "step    1/1801  4.10k/7.38M tokens  loss 2.5000  lr 1.20e-04  norm 0.534  2.05k tok/s   1h00m left");
}

TEST(ProgressLine, TheLiveLineIsRewrittenAtMostTenTimesASecond) {
  Screen screen;
  ProgressLine progress(screen.output(true), 1000, 1000 * 4096, 10);
  for (int i = 0; i < 100; ++i) {
    screen.time += 0.0201;
    progress.step(step(i));
  }
  const std::string all = screen.stream.str();
  const auto drawn = std::ranges::count(all, '\r');
  EXPECT_GE(drawn, 15);  // two seconds
  EXPECT_LE(drawn, 21);
  EXPECT_THAT(all, Not(HasSubstr("\n")));
}

TEST(ProgressLine, TheLastStepIsDrawnAndFinishEndsTheLine) {
  Screen screen;
  {
    ProgressLine progress(screen.output(true), 3, 3 * 4096, 10);
    for (int i = 0; i < 3; ++i) progress.step(step(i));  // no time passes between them
    EXPECT_THAT(screen.live_line(), StartsWith("step 3/3"));
    progress.finish();
    EXPECT_THAT(screen.stream.str(), EndsWith("\n"));
  }
  EXPECT_THAT(screen.stream.str(), Not(EndsWith("\n\n")));
}

TEST(ProgressLine, TheLiveLineFitsAnyWidthAndKeepsWhatMattersMost) {
  for (int width = 2; width < 130; ++width) {
    Screen screen;
    screen.width = width;
    ProgressLine progress(screen.output(true), 1000, 1000 * 4096, 10);
    progress.step(step(0));
    const std::string line = screen.live_line();
    EXPECT_LT(line.size(), static_cast<size_t>(width));
    EXPECT_THAT(line, StartsWith(std::string("step    1/1000").substr(0, width - 1)));
    // Step and loss take 27 columns, all fields together 98, and one stays free.
    EXPECT_EQ(line.find("loss 2.5000") != std::string::npos, width > 27) << width;
    EXPECT_EQ(line.find("lr 1.20e-04") != std::string::npos, width > 98) << width;
  }
}

TEST(ProgressLine, LossIsSmoothedWithoutAStartFromZero) {
  Screen screen;
  ProgressLine progress(screen.output(false), 1000, 1000 * 4096, 1);
  progress.step(step(0, 4));
  EXPECT_THAT(screen.lines().back(), HasSubstr("loss 4.0000"));
  progress.step(step(1, 2));
  // (0.9 * 4 + 2) / (0.9 + 1)
  EXPECT_THAT(screen.lines().back(), HasSubstr("loss 2.9474"));
  for (int i = 2; i < 200; ++i) progress.step(step(i, 1));
  EXPECT_THAT(screen.lines().back(), HasSubstr("loss 1.0000"));
}

TEST(ProgressLine, TimeLeftFollowsTheLastSteps) {
  Screen screen;
  ProgressLine progress(screen.output(false), 1000, 1000 * 4096, 1);
  screen.time += 60;  // a slow first step
  progress.step(step(0, 2.5, 60));
  EXPECT_THAT(screen.lines().back(), HasSubstr(" 16h39m left"));
  for (int i = 1; i < 200; ++i) {
    screen.time += 2;
    progress.step(step(i));
  }
  EXPECT_THAT(screen.lines().back(), HasSubstr(" 26m40s left"));  // 800 steps of 2 s: the slow one is forgotten
}

// 100 s of validation after every 100 steps of 2 s: all goes by one half slower, just after one as just before.
TEST(ProgressLine, TimeLeftCountsValidationsWithoutAJump) {
  Screen screen;
  ProgressLine progress(screen.output(false), 2000, 2000 * 4096, 1);
  for (int i = 0; i < 1000; ++i) {
    screen.time += i % 100 == 99 ? 102 : 2;
    progress.step(step(i));
  }
  EXPECT_THAT(screen.lines().back(), HasSubstr(" 50m00s left"));  // 1000 steps of 3 s
  screen.time += 2;
  progress.step(step(1000));
  EXPECT_THAT(screen.lines().back(),
              HasSubstr(" 49m56s left"));  // 999 of them, and the next validation is a step nearer
}

TEST(ProgressLine, AResumedRunReckonsFromItsFirstStep) {
  Screen screen;
  ProgressLine progress(screen.output(false), 1000, 1000 * 4096, 1);
  screen.time += 2;
  progress.step(step(899));
  EXPECT_THAT(screen.lines().back(), HasSubstr(" 3m20s left"));
}

TEST(ProgressLine, AValidationHasALineOfItsOwn) {
  StepMetrics m = step(99);
  m.val_loss = 1.23456, m.val_acc = 0.6125;
  Screen log, terminal;
  ProgressLine(log.output(false), 1000, 1000 * 4096, 7).step(m);
  EXPECT_EQ(log.lines().back(), "validation after step 100: loss 1.2346, accuracy 61.25 %");

  ProgressLine progress(terminal.output(true), 1000, 1000 * 4096, 7);
  progress.step(step(98));
  progress.step(m);
  EXPECT_THAT(terminal.stream.str(), HasSubstr("\r\x1b[Kvalidation after step 100: loss 1.2346, accuracy 61.25 %\n"));
  EXPECT_THAT(terminal.live_line(), ContainsRegex("\nstep   99/1000"));  // the live line goes on below
}

}  // namespace
}  // namespace gf
