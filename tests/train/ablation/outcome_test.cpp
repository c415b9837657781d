// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/outcome.h"

#include <gtest/gtest.h>

#include "io/checkpoint/checkpoint_folder.h"
#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

class AblationOutcomes : public testing::Test {
 protected:
  AblationOutcomes() {
    run_.config.train.proj_dir = folder_.path().string();
    run_.config.train.proj_name = "finch", run_.config.train.proj_suffix = "s1";
    planned_[0].name = "finch";
    std::filesystem::create_directories(run());
  }
  std::filesystem::path run() const { return run_folder(run_.config); }
  // With one of them that the checkpoint is of; nobody reads what is in it.
  void save(int64_t step) const {
    const auto folder = run() / "checkpoints" / step_folder_name(step);
    std::filesystem::create_directories(folder);
    for (const char* name : {kDoneFile, kIndexFile}) write_file(folder / name, "");
  }
  AblationOutcome outcome(int64_t last_step) {
    left_out_.clear();
    return outcome_of({}, planned_, std::vector{run_}, std::vector{last_step},
                      [&](const std::string& name, const Error& why) {
                        left_out_ += cat(name, ": ", why.what(), " [try: ", why.hint(), "]");
                      });
  }
  void expect_left_out(int64_t last_step, const std::vector<std::string>& pieces) {
    const AblationOutcome o = outcome(last_step);
    EXPECT_TRUE(o.histories.empty());
    EXPECT_EQ(o.variants.at(0).runs, 1);
    EXPECT_EQ(o.variants[0].done, 0);
    EXPECT_EQ(o.variants[0].train_loss.count, 0);
    for (const std::string& piece : pieces)
      EXPECT_NE(left_out_.find(piece), std::string::npos) << piece << " is not in: " << left_out_;
  }
  static StepMetrics step(int64_t number) {
    return {.step = number,
            .tokens = 100 * (number + 1),
            .loss = 2,
            .grad_norm = 1,
            .lr = 0.1,
            .step_s = 1,
            .tokens_per_s = 100,
            .val_loss = 1.75,
            .val_acc = {}};
  }
  TempFolder folder_;
  std::vector<PlannedVariant> planned_ = std::vector<PlannedVariant>(1);
  AblationRun run_{0, 1, {}, {}};
  std::string left_out_;
};

// A skipped step is one that the run has taken, and a validation after it is of the model that the run ends with.
TEST_F(AblationOutcomes, ARunWhoseLastStepWasSkippedIsDone) {
  const auto path = run() / "metrics.jsonl";
  MetricsWriter(path, 0).append(step(0));
  StepMetrics m = step(1);
  m.loss = 9, m.val_loss = 1.5, m.skipped = "the loss is 9";
  MetricsWriter(path, 1).append(m);
  EXPECT_EQ(outcome(3).variants.at(0).done, 0);
  const VariantOutcome v = outcome(2).variants.at(0);
  EXPECT_EQ(v.done, 1);
  EXPECT_EQ(v.val_loss.count, 1);
  EXPECT_EQ(v.val_loss.mean, 1.5);
  EXPECT_EQ(v.train_loss.mean, 2) << "its own loss is no result";
}

// Training asks the checkpoint whether a run is done, the report its metrics: where these disagree nothing is told.
TEST_F(AblationOutcomes, ATrainedRunWithoutItsMetricsIsLeftOut) {
  const auto path = run() / "metrics.jsonl";
  EXPECT_TRUE(outcome(2).histories.empty());
  EXPECT_EQ(left_out_, "") << "it has not begun";
  MetricsWriter(path, 0).append(step(0));
  save(1);
  EXPECT_EQ(outcome(2).histories.size(), 1u) << "it has begun";
  EXPECT_EQ(left_out_, "");
  save(2);
  const std::string remove = cat("remove ", run().string(), " to train it anew");
  expect_left_out(
      2, {cat("finch-s1: ", path.string(), " ends at step 1, and the run has a checkpoint of step 2"), remove});
  MetricsWriter(path, 1).append(step(1));
  EXPECT_EQ(outcome(2).variants.at(0).done, 1);
  EXPECT_EQ(left_out_, "");
  std::filesystem::remove(path);
  expect_left_out(2, {cat("finch-s1: there is no ", path.string()), remove});
}

TEST_F(AblationOutcomes, ARunWhoseFilesCannotBeReadIsLeftOut) {
  MetricsWriter(run() / "metrics.jsonl", 0).append(step(0));
  EXPECT_EQ(outcome(1).variants.at(0).done, 1);
  for (const auto& [name, pieces] :
       {std::pair("positions.jsonl", std::vector<std::string>{"positions.jsonl:1 is no line of gf eval --by-position",
                                                              "move the file away"}),
        {"config.yaml", {"config.yaml:", " is not YAML", "mend that file; or remove "}}}) {
    write_file(run() / name, "{\"loss\": [2\n");
    expect_left_out(1, pieces);
    std::filesystem::remove(run() / name);
  }
  std::filesystem::create_directory(run() / "peak_bytes.txt");
  expect_left_out(1, {"peak_bytes.txt", "[try: remove it]"});
}

TEST(NotePeak, KeepsTheLargestAndFollowsNoLink) {
  const TempFolder folder;
  note_peak(folder.path(), 5000);
  note_peak(folder.path(), 4000);
  EXPECT_EQ(read_file(folder / "peak_bytes.txt"), "5000\n");
  std::filesystem::rename(folder / "peak_bytes.txt", folder / "other");
  std::filesystem::create_symlink("other", folder / "peak_bytes.txt");
  expect_refused({folder / "peak_bytes.txt", "is a symbolic link"}, [&] { note_peak(folder.path(), 6000); });
  EXPECT_EQ(read_file(folder / "other"), "5000\n");
}

}  // namespace
}  // namespace gf
