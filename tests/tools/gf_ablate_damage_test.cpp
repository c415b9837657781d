// SPDX-License-Identifier: Apache-2.0
// gf ablate among runs that cannot be read, and begun from what cannot be loaded.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "io/checkpoint/checkpoint_folder.h"
#include "io/run_folder.h"
#include "support/tiny_ablation.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class DamagedAblation : public TinyAblation {
 protected:
  static void expect_said(const ProgramResult& result, const std::vector<std::string>& pieces) {
    for (const std::string& piece : pieces) {
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << " is not in: " << result.err;
      EXPECT_EQ(result.err.find(piece), result.err.rfind(piece)) << piece << " is said twice: " << result.err;
    }
  }
};

// A gf eval without --by-position, kept where one with it belongs.
TEST_F(DamagedAblation, AFileThatCannotBeReadTakesNoOtherRunWithIt) {
  ASSERT_EQ(ablate({"--seeds=1"}).status, 0);
  const fs::path positions = RunPaths(run("finch-s1")).positions();
  write_file(positions, "{\"loss\": 2.5}\n");
  const std::string told = cat("gf ablate: finch-s1 is not in the report: ", positions.string(), ":1 is no line of");
  const ProgramResult dry = ablate({"--dry-run"});
  EXPECT_EQ(dry.status, 0) << dry.err;
  expect_said(dry, {told, "move the file away"});
  const ProgramResult result = ablate();
  EXPECT_EQ(result.status, 1);
  expect_said(result, {told, "1 of 4 runs failed or cannot be read"});
  EXPECT_NE(result.out.find("[4/4] goldfinch-s2: training loss"), std::string::npos) << result.out;
  EXPECT_EQ(csv().at("finch").at("runs_done"), "1") << "that of seed 2";
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "2");
  const ProgramResult others = ablate({"--only=goldfinch"});
  EXPECT_EQ(others.status, 0) << others.err;
  expect_said(others, {told});
  fs::remove(positions);
  EXPECT_EQ(ablate().status, 0);
  EXPECT_EQ(csv().at("finch").at("runs_done"), "2");
}

// The checkpoint says that it is done, and no loss can be told of it.
TEST_F(DamagedAblation, ATrainedRunWithoutItsMetricsIsNoRunThatIsDone) {
  const std::vector<std::string> finch{"--only=finch", "--seeds=1"};
  ASSERT_EQ(ablate(finch).status, 0);
  const fs::path metrics = RunPaths(run("finch-s1")).metrics();
  const std::string whole = read_file(metrics);
  size_t end = 0;
  for (int line = 0; line < 3; ++line) end = whole.find('\n', end) + 1;
  write_file(metrics, whole.substr(0, end));
  const std::string remove = cat("remove ", run("finch-s1").string(), " to train it anew");
  const ProgramResult cut = ablate(finch);
  EXPECT_EQ(cut.status, 1);
  EXPECT_EQ(cut.out.find("training loss"), std::string::npos) << cut.out;
  expect_said(cut, {cat(metrics.string(), " ends at step 3, and the run has a checkpoint of step 6"), remove,
                    "1 of 1 runs failed or cannot be read"});
  fs::remove(metrics);
  const ProgramResult lost = ablate();
  EXPECT_EQ(lost.status, 1);
  expect_said(lost, {cat("there is no ", metrics.string()), remove, "1 of 4 runs failed"});
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "2");
  fs::remove_all(run("finch-s1"));
  EXPECT_EQ(ablate().status, 0);
  EXPECT_EQ(csv().at("finch").at("runs_done"), "2");
}

TEST_F(DamagedAblation, ADamagedCheckpointIsInTheWayOfItsOwnRunAlone) {
  ASSERT_EQ(ablate({"--only=finch", "--seeds=1"}).status, 0);
  const fs::path index = RunPaths(run("finch-s1")).checkpoints() / step_folder_name(6) / kIndexFile;
  ASSERT_TRUE(fs::exists(index));
  write_file(index, "x");
  const std::string remove = cat("or remove ", run("finch-s1").string(), " to train it anew");
  for (const auto& more : {std::vector<std::string>{"--only=goldfinch"}, {"--seeds=2"}}) {
    const ProgramResult others = ablate(more);
    EXPECT_EQ(others.status, 0) << others.err;
    expect_said(others, {cat("gf ablate: finch-s1 is not in the report: ", index.string()), remove});
  }
  EXPECT_EQ(csv().at("finch").at("runs_done"), "1") << "that of seed 2";
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "2");
  for (const auto& more : {std::vector<std::string>{}, {"--dry-run"}, {"--only=finch"}}) {
    const ProgramResult own = ablate(more);
    EXPECT_EQ(own.status, 2) << own.err;
    expect_said(own, {cat("variant finch, seed 1: ", index.string()), remove});
  }
}

TEST_F(DamagedAblation, WhatNoRunCanBeginFromIsRefusedBeforeAnythingRuns) {
  const std::string none = folder_ / "none";
  refused({"--train.load_model=" + none}, {"variant finch, seed 1: ", none});
  refused({"--train.load_model=" + none, "--dry-run"}, {"variant finch, seed 1: ", none});
  refused({"--train.load_model=" + none, "--dry-run", "--train.data_file=nowhere"}, {"variant finch, seed 1: ", none});
  const auto goldfinch = std::make_unique<TinyRun>(std::vector<std::string>{"--train.train_stage=1"});
  const std::string from = "--train.load_model=" + goldfinch->checkpoint();
  refused({from}, {"variant finch, seed 1: ", "in the checkpoint"});
  refused({from, "--dry-run"}, {"variant finch, seed 1: ", "in the checkpoint"});
  const ProgramResult result = ablate({from, "--only=goldfinch"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "2");
  fs::remove_all(goldfinch->checkpoint());  // a run that is there needs it no more
  const ProgramResult again = ablate({from, "--only=goldfinch"});
  EXPECT_EQ(again.status, 0) << again.err;
}

}  // namespace
}  // namespace gf
