// SPDX-License-Identifier: Apache-2.0
// Steps that were skipped, in what a run folder tells. The rest of it is in report_test.cpp.
#include "train/run_history.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/temp_folder.h"

namespace gf {
namespace {

// As many steps as marks: '.' learned from, 's' skipped; 'V' and 'S' likewise, with a validation after them. Step i has
// a loss of i, a skipped one none, and a validation of 10 + i.
RunHistory run_with(const std::string& marks) {
  const TempFolder folder;
  MetricsWriter writer(folder / "metrics.jsonl", 0);
  for (size_t i = 0; i < marks.size(); ++i) {
    const bool skipped = marks[i] == 's' || marks[i] == 'S', validated = marks[i] == 'V' || marks[i] == 'S';
    StepMetrics m{.step = static_cast<int64_t>(i), .lr = 0.1, .step_s = 0.5, .val_loss = {}, .val_acc = {}};
    const double number = static_cast<double>(i);
    m.tokens = 100 * (m.step + 1), m.tokens_per_s = 200, m.grad_norm = 1;
    m.loss = skipped ? std::nan("") : number;
    if (skipped) m.skipped = "the loss is nan";
    if (validated) m.val_loss = 10 + number, m.val_acc = number / 10;
    writer.append(m);
  }
  return load_run(folder.path());
}

TEST(SkippedSteps, AreDoneAndTheirValidationsCount) {
  const RunHistory run = run_with("..V.sS");
  EXPECT_EQ(run.steps.size(), 4u);
  EXPECT_EQ(run.skipped.size(), 2u);
  const RunSummary s = summarize(run);
  EXPECT_EQ(s.steps, 6);
  EXPECT_EQ(s.tokens, 600);
  EXPECT_EQ(s.last_val_loss, 15);
  EXPECT_EQ(s.best_val_loss, 12);
  EXPECT_EQ(s.last_val_acc, 0.5);
  EXPECT_EQ(s.final_loss, 1.5) << "the mean of 0 to 3";
  EXPECT_EQ(s.loss_steps, 4);
  EXPECT_EQ(s.seconds, 2);
}

TEST(SkippedSteps, TheirValidationsAreDrawnInTheirPlaces) {
  const RunHistory run = run_with(".V.S.V");
  const Validations v = validations(run, 10);
  EXPECT_EQ(v.step, (std::vector<int64_t>{1, 3, 5}));
  EXPECT_EQ(v.tokens, (std::vector<int64_t>{200, 400, 600}));
  EXPECT_EQ(v.loss, (std::vector<double>{11, 13, 15}));
  EXPECT_EQ(v.seconds, (std::vector<double>{1, 1.5, 2.5})) << "as the curves have them";
  EXPECT_EQ(curves(run, 10).seconds.back(), 2.5);
}

TEST(SkippedSteps, AloneAreDoneAndGiveNoLoss) {
  const RunSummary s = summarize(run_with("sS"));
  EXPECT_EQ(s.steps, 2);
  EXPECT_EQ(s.last_val_loss, 11);
  EXPECT_FALSE(s.final_loss.has_value());
  EXPECT_EQ(s.loss_steps, 0);
}

}  // namespace
}  // namespace gf
