// SPDX-License-Identifier: Apache-2.0
// train.bad_step and train.spike_z: a step that should not be learned from, on one rank and on several.
#include <algorithm>

#include "end_to_end/many_ranks.h"
#include "io/checkpoint/checkpoint_folder.h"

namespace gf {
namespace {

class Skip : public ManyRanks {
 protected:
  // A pattern that is soon learned, with a stretch of noise that some samples lie in.
  Skip() {
    std::vector<uint16_t> tokens(4000);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint16_t>(i % 5);
    const auto noise = random_tokens(64, 65);
    std::copy(noise.begin(), noise.end(), tokens.begin() + 2000);
    options_["train.data_file"] = data_set("spiky", tokens);
    options_["train.micro_bsz"] = "1";
    options_["train.accumulate_grad_batches"] = "2";
    options_["train.lr_init"] = "0.01";
    options_["train.max_steps"] = "120";
    options_["train.spike_z"] = "8";
    options_["train.spike_window"] = "20";
    options_["train.bad_step"] = "skip";
  }
  std::vector<int64_t> skipped(const std::string& suffix) const {
    std::vector<int64_t> steps;
    for (const auto& m : metrics(suffix))
      if (m.contains("skipped")) steps.push_back(m.at("step"));
    return steps;
  }
};

TEST_F(Skip, ASpikeChangesNothingAndAllRanksAgree) {
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  const auto steps = skipped("whole");
  ASSERT_FALSE(steps.empty());
  EXPECT_LT(steps.size(), 12u) << "the rest is learned";
  // Stopped before, right after and some steps after the first one: the steps before it are remembered.
  for (const int64_t stop : {steps[0], steps[0] + 1, steps[0] + 5}) {
    const std::string suffix = std::to_string(stop);
    trained({{"train.proj_suffix", suffix}, {"train.max_steps", suffix}});
    expect_same(trained({{"train.proj_suffix", suffix}}), whole);
  }
  for (const char* zero : {"1", "2", "3"}) {
    const std::string suffix = std::string("zero") + zero;
    const ProgramResult result = train_on(2, {{"train.proj_suffix", suffix}, {"parallel.zero", zero}});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(skipped(suffix), steps);
    EXPECT_NE(result.out.find(" skipped: the loss is "), std::string::npos) << result.out;
  }
}

TEST_F(Skip, ASpikeStopsTheRun) {
  trained({{"train.proj_suffix", "skips"}});
  const int64_t first = skipped("skips").at(0);
  for (const int ranks : {1, 2}) {
    const ProgramResult result =
        train_on(ranks, {{"train.bad_step", "stop"}, {"train.save_every_steps", "1"}, {"train.proj_suffix", "stops"}});
    EXPECT_EQ(result.status, 1);
    const std::string want = "step " + std::to_string(first) + ": the loss is ";
    EXPECT_NE(result.err.find(want), std::string::npos) << want << " is not in " << result.err;
    EXPECT_NE(result.err.find("standard deviations"), std::string::npos) << result.err;
    EXPECT_EQ(newest_checkpoint(checkpoints("stops"))->step, first) << "the step before is saved, and whole";
  }
}

// Where every step is bad, it is not the data.
TEST_F(Skip, StopsWhereNoStepIsGood) {
  const ProgramResult result = train({{"train.lr_init", "1e30"}, {"train.lr_final", "1e30"}});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("10 steps in a row are bad; the loss is "), std::string::npos) << result.err;
  const auto steps = skipped("0");
  EXPECT_EQ(steps.size(), 9u);
  EXPECT_TRUE(metrics("0").back().at("loss").is_null() || metrics("0").back().at("grad_norm").is_null());
  // Nor where the run was stopped in between.
  const Options bad{{"train.lr_init", "1e30"}, {"train.lr_final", "1e30"}, {"train.proj_suffix", "stopped"}};
  Options begin = bad;
  begin["train.max_steps"] = std::to_string(steps.back());
  trained(begin);
  EXPECT_EQ(train(bad).status, 1);
  EXPECT_EQ(skipped("stopped"), steps);
}

}  // namespace
}  // namespace gf
