// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/outcome.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

// A skipped step is one that the run has taken, and a validation after it is of the model that the run ends with.
TEST(AblationOutcome, ARunWhoseLastStepWasSkippedIsDone) {
  const TempFolder folder;
  Ablation ablation;
  ablation.name = "tiny";
  std::vector<PlannedVariant> planned(1);
  planned[0].name = "finch";
  AblationRun run{0, 1, {}, {}};
  run.config.train.proj_dir = folder.path().string();
  run.config.train.proj_name = "finch", run.config.train.proj_suffix = "s1";
  std::filesystem::create_directories(run_folder(run.config));
  StepMetrics m{.tokens = 100,
                .loss = 2,
                .grad_norm = 1,
                .lr = 0.1,
                .step_s = 1,
                .tokens_per_s = 100,
                .val_loss = 1.75,
                .val_acc = {}};
  const auto path = run_folder(run.config) / "metrics.jsonl";
  MetricsWriter(path, 0).append(m);
  m.step = 1, m.tokens = 200, m.loss = 9, m.val_loss = 1.5, m.skipped = "the loss is 9";
  MetricsWriter(path, 1).append(m);
  const auto outcome = [&](int64_t last_step) {
    return outcome_of(ablation, planned, std::vector{run}, std::vector{last_step}).variants.at(0);
  };
  EXPECT_EQ(outcome(3).done, 0);
  const VariantOutcome v = outcome(2);
  EXPECT_EQ(v.done, 1);
  EXPECT_EQ(v.val_loss.count, 1);
  EXPECT_EQ(v.val_loss.mean, 1.5);
  EXPECT_EQ(v.train_loss.mean, 2) << "its own loss is no result";
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
