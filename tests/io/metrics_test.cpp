// SPDX-License-Identifier: Apache-2.0
#include "io/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <limits>
#include <sstream>

#include "base/error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

using testing::HasSubstr;

StepMetrics step(int64_t number) {
  return {.step = number,
          .tokens = (number + 1) * 4096,
          .loss = 5.5452,
          .grad_norm = 1.27,
          .lr = 0.00012,
          .step_s = 0.81,
          .tokens_per_s = 5056.7,
          .val_loss = {},
          .val_acc = {}};
}

std::string text_of(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void put(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

std::vector<int64_t> steps_in(const std::filesystem::path& path) {
  std::vector<int64_t> steps;
  for (const StepMetrics& m : read_metrics(path)) steps.push_back(m.step);
  return steps;
}

std::string lines(int64_t begin, int64_t end) {
  TempFolder folder;
  MetricsWriter writer(folder / "m", begin);
  for (int64_t i = begin; i < end; ++i) writer.append(step(i));
  return text_of(folder / "m");
}

// The error's message and status, for an action that must not succeed.
template <class Action>
std::pair<std::string, int> error_of(Action&& action) {
  try {
    action();
  } catch (const Error& e) {
    return {e.what(), static_cast<int>(e.status())};
  }
  return {"no error", 0};
}

// JSON has no NaN. What went wrong stays readable, and the steps after it.
TEST(Metrics, OfASkippedStepWhatIsNotFiniteIsNull) {
  TempFolder folder;
  MetricsWriter writer(folder / "m", 0);
  StepMetrics bad = step(0);
  bad.loss = bad.grad_norm = std::nan(""), bad.val_loss = INFINITY, bad.val_acc = 0.5;
  EXPECT_THAT(error_of([&] { writer.append(bad); }).first, HasSubstr(" of step 0 is nan: metrics take finite values"));
  bad.skipped = "the loss is nan";
  writer.append(bad);
  writer.append(step(1));
  EXPECT_THAT(text_of(folder / "m"), HasSubstr("\"val_loss\": null, \"val_acc\": 0.5, \"skipped\""));
  const std::vector<StepMetrics> read = read_metrics(folder / "m");
  ASSERT_EQ(read.size(), 2);
  EXPECT_TRUE(std::isnan(read[0].loss));
  EXPECT_FALSE(read[0].val_loss.has_value());
  EXPECT_EQ(read[0].val_acc, 0.5);
}

TEST(Metrics, TheLineOfTheContract) {
  TempFolder folder;
  MetricsWriter writer(folder / "m", 0);
  writer.append(step(0));
  const std::string first =
      "{\"step\": 0, \"tokens\": 4096, \"loss\": 5.5452, \"grad_norm\": 1.27, \"lr\": 0.00012, \"step_s\": 0.81, "
      "\"tokens_per_s\": 5056.7}\n";
  EXPECT_EQ(text_of(folder / "m"), first);  // while the writer still has the file open
  StepMetrics validated = step(1);
  validated.val_loss = 4.5, validated.val_acc = 0.25;
  writer.append(validated);
  EXPECT_THAT(text_of(folder / "m"), HasSubstr("5056.7, \"val_loss\": 4.5, \"val_acc\": 0.25}\n"));
}

TEST(Metrics, EveryDoubleComesBackWithItsBits) {
  TempFolder folder;
  StepMetrics m = step(3);
  m.tokens = int64_t{1} << 53 | 1;
  m.loss = std::nextafter(2.5, 3.0), m.grad_norm = 1e-300, m.lr = 5e-324, m.step_s = 7, m.tokens_per_s = 1.0 / 3;
  m.val_loss = 1e22;
  MetricsWriter(folder / "m", 0).append(m);
  const auto read = read_metrics(folder / "m");
  ASSERT_EQ(read.size(), 1u);
  EXPECT_EQ(read[0].step, 3);
  EXPECT_EQ(read[0].tokens, m.tokens);
  EXPECT_EQ(read[0].loss, m.loss);
  EXPECT_EQ(read[0].grad_norm, m.grad_norm);
  EXPECT_EQ(read[0].lr, m.lr);
  EXPECT_EQ(read[0].step_s, 7);
  EXPECT_EQ(read[0].tokens_per_s, m.tokens_per_s);
  EXPECT_EQ(read[0].val_loss, 1e22);
  EXPECT_FALSE(read[0].val_acc.has_value());
}

TEST(Metrics, AResumeRemovesItsStepAndLaterOnes) {
  TempFolder folder;
  put(folder / "m", lines(0, 10));
  MetricsWriter(folder / "m", 7).append(step(7));
  EXPECT_EQ(text_of(folder / "m"), lines(0, 8));
}

TEST(Metrics, AResumeAtTheEndOrBeyondKeepsEverything) {
  TempFolder folder;
  put(folder / "m", lines(0, 4));
  MetricsWriter(folder / "m", 4).append(step(4));
  MetricsWriter(folder / "m", 9).append(step(9));
  EXPECT_THAT(steps_in(folder / "m"), testing::ElementsAre(0, 1, 2, 3, 4, 9));
}

TEST(Metrics, AFreshStartRemovesAll) {
  TempFolder folder;
  put(folder / "m", lines(0, 4));
  MetricsWriter(folder / "m", 0);
  EXPECT_EQ(text_of(folder / "m"), "");
}

TEST(Metrics, ALineTornAtAnyByteIsReadOverAndRemoved) {
  const std::string whole = lines(0, 3), kept = lines(0, 2);
  TempFolder folder;
  for (size_t size = kept.size(); size < whole.size(); ++size) {
    put(folder / "m", whole.substr(0, size));
    const bool complete = size + 1 == whole.size();  // nothing but the line's end is missing
    ASSERT_EQ(read_metrics(folder / "m").size(), complete ? 3u : 2u) << size;
    MetricsWriter(folder / "m", 3).append(step(3));
    ASSERT_EQ(text_of(folder / "m"), (complete ? whole : kept) + lines(3, 4)) << size;
  }
}

TEST(Metrics, NotFiniteIsRefusedAndNotWritten) {
  TempFolder folder;
  MetricsWriter writer(folder / "m", 0);
  StepMetrics m = step(12);
  m.grad_norm = std::numeric_limits<double>::quiet_NaN();
  const auto [what, status] = error_of([&] { writer.append(m); });
  EXPECT_THAT(what, HasSubstr("grad_norm of step 12 is nan"));
  EXPECT_EQ(status, 1);
  EXPECT_EQ(text_of(folder / "m"), "");
}

TEST(Metrics, AStepTwiceIsOurOwnMistake) {
  TempFolder folder;
  MetricsWriter writer(folder / "m", 5);
  writer.append(step(5));
  EXPECT_THAT(error_of([&] { writer.append(step(5)); }).first, HasSubstr("metrics of step 5 after those of step 5"));
}

TEST(Metrics, AFailedWriteNamesFileAndReason) {
  std::signal(SIGXFSZ, SIG_IGN);
  TempFolder folder;
  MetricsWriter writer(folder / "m", 0);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit tight{200, before.rlim_max};  // the second line crosses it: written in part, then not at all
  setrlimit(RLIMIT_FSIZE, &tight);
  writer.append(step(0));
  const auto [what, status] = error_of([&] { writer.append(step(1)); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(what, "cannot write " + (folder / "m").string() + ": File too large");
  EXPECT_EQ(status, 1);
  EXPECT_THAT(steps_in(folder / "m"), testing::ElementsAre(0));
}

TEST(Metrics, AnUnwritableFolderIsNamed) {
  TempFolder folder;
  const auto [what, status] = error_of([&] { MetricsWriter(folder / "none/m", 0); });
  EXPECT_THAT(what, HasSubstr((folder / "none/m").string() + ": No such file"));
  EXPECT_EQ(status, 1);
}

TEST(Metrics, UnknownKeysAreReadOver) {
  TempFolder folder;
  put(folder / "m", R"({"new": {"a": [1, "x"]}, "lr": 1, "step": 2, "tokens": 8, "loss": 3, "grad_norm": 1, )"
                    R"("step_s": 1e-2, "tokens_per_s": 4, "note": "loss"})"
                    "\n");
  const auto read = read_metrics(folder / "m");
  ASSERT_EQ(read.size(), 1u);
  EXPECT_EQ(read[0].step, 2);
  EXPECT_EQ(read[0].loss, 3);
  EXPECT_EQ(read[0].step_s, 0.01);
}

TEST(Metrics, GarbageIsRefusedWithItsLine) {
  const std::string good = lines(0, 2);
  const std::pair<std::string, std::string> cases[] = {
      {"hello", "is no step: no JSON"},
      {"[1, 2]", "is no step: a JSON object is wanted, and this is a list"},
      {"", "is no step: no JSON"},
      {R"({"step": 2})", "has no \"tokens\""},
      {R"({"step": 2.5, "tokens": 1})", "has no count under \"step\" but 2.5"},
      {R"({"step": -2, "tokens": 1})", "has no count under \"step\" but -2"},
      {R"({"step": 99999999999999999999, "tokens": 1})", "has no count under \"step\""},
      {R"({"step": 9223372036854775807, "tokens": 1})", "has no count under \"step\" but 9223372036854775807"},
      {R"({"step": 18446744073709551615, "tokens": 1})", "has no count under \"step\" but 18446744073709551615"},
      {R"({"step": 2, "tokens": 1, "loss": "nan"})", "has no number under \"loss\" but \"nan\""},
      {R"({"step": 2, "tokens": 1, "loss": NaN})", "is no step: no JSON"},
      {R"({"step": [[2]], "tokens": 1})", "has no count under \"step\" but a list"},
      {R"({"step": 2, "tokens": 1, "loss": {"a": 1}})", "has no number under \"loss\" but an object"},
      {"{\"step\": \"\xff\"}", "is no step: no JSON"},
      {std::string(70000, '['), "is longer than 65536 bytes"},
      {std::string(60000, '['), "is no step: a JSON object is wanted, and this is a list"},
      {"{\"step\": " + std::string(60000, '['), "is no step: it is nested deeper than 128 levels"},
      {lines(1, 2).substr(0, lines(1, 2).size() - 1), "has step 1 after step 1"},
  };
  TempFolder folder;
  for (const auto& [line, problem] : cases) {
    put(folder / "m", good + line + "\n" + lines(5, 6));
    const auto [what, status] = error_of([&] { read_metrics(folder / "m"); });
    EXPECT_THAT(what, HasSubstr("m:3 " + problem)) << line.substr(0, 100);
    EXPECT_EQ(status, 2);
    EXPECT_THAT(error_of([&] { MetricsWriter(folder / "m", 9); }).first, HasSubstr("m:3"));
    EXPECT_EQ(text_of(folder / "m"), good + line + "\n" + lines(5, 6)) << "a refused file must stay as it is";
  }
}

// Whoever reads the message has a terminal: it shows little of what is foreign, and nothing that the terminal obeys.
TEST(Metrics, AMessageHasLittleOfTheLine) {
  const std::string rest =
      ", \"tokens\": 1, \"loss\": 2, \"grad_norm\": 1, \"lr\": 1, \"step_s\": 1, \"tokens_per_s\": 1}\n";
  const std::string many(30000, '1'), brackets = std::string(100, '[') + std::string(100, ']');
  TempFolder folder;
  for (const std::string& step :
       {"\"" + many + "\"", "0." + many, many, brackets, "\"\\u001b[2J" + many + "\"", many + "x"}) {
    put(folder / "m", "{\"step\": " + step + rest);
    const auto [what, status] = error_of([&] { read_metrics(folder / "m"); });
    EXPECT_EQ(status, 2);
    EXPECT_THAT(what, HasSubstr("m:1 "));
    EXPECT_LT(what.size(), (folder / "m").string().size() + 400) << what.substr(0, 200);
    EXPECT_EQ(what.find('\x1b'), std::string::npos);
  }
}

TEST(Metrics, WhatIsNoFileIsRefused) {
  TempFolder folder;
  EXPECT_THAT(error_of([&] { read_metrics(folder / "none"); }).first, HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { read_metrics(folder.path()); }).first, HasSubstr("is a folder"));
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { MetricsWriter(folder / "pipe", 0); }).second, 2);
  EXPECT_EQ(error_of([&] { read_metrics(folder / "none"); }).second, 2);
}

}  // namespace
}  // namespace gf
