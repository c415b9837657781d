// SPDX-License-Identifier: Apache-2.0
// --rope.rescale and --rope.rebase of gf score and gf generate; those of gf eval are in gf_eval_test.cpp.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/tiny_run.h"
#include "train/parameters.h"
#include "train/score.h"

namespace gf {
namespace {

// Trained a little: fresh attention has nothing to say, wherever it looks.
class PositionChange : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    run_ = new_run_that_read("the goldfinch says hello. ", "40", {"--model.rope.base=50"});
  }
  static void TearDownTestSuite() { delete run_; }
  static ProgramResult gf(const char* command, const std::vector<std::string>& more, const std::string& input = {}) {
    std::vector<std::string> arguments{command, "--checkpoint", run_->checkpoint(), "--vocab", "byte"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program("gf", arguments, {}, input);
  }
  inline static TinyRun* run_;
};

TEST_F(PositionChange, ScoresAsTheModelThatWasTrainedSo) {
  ScoreRequest request;
  for (int32_t i = 0; i < 40; ++i) (i < 10 ? request.context : request.continuation).push_back(1 + i * 7 % 256);
  const std::string line =
      nlohmann::json{{"context_tokens", request.context}, {"continuation_tokens", request.continuation}}.dump();
  const auto told = [&](const std::vector<std::string>& more) {
    const ProgramResult result = gf("score", more, line);
    EXPECT_EQ(result.status, 0) << result.err;
    return nlohmann::json::parse(result.out)["logprob"].get<double>();
  };
  const auto of_a_model = [&](double rescale, double rebase) {
    const TrainedModel model = open_model(run_->checkpoint(), [&](ModelConfig& config) {
      config.rope = RopeConfig{50, rescale, rebase};
    });
    return score(*model.layers, std::vector{request})[0].logprob;
  };
  const double as_trained = told({});
  EXPECT_DOUBLE_EQ(as_trained, of_a_model(1, 1));
  EXPECT_DOUBLE_EQ(told({"--rope.rescale", "4"}), of_a_model(4, 1));
  EXPECT_DOUBLE_EQ(told({"--rope.rescale", "2", "--rope.rebase", "100"}), of_a_model(2, 100));
  EXPECT_NE(told({"--rope.rescale", "4"}), as_trained);
  EXPECT_EQ(gf("score", {"--rope.rescale", "0"}, line).status, 2);
}

// Its keys are turned as they were when it was written.
TEST_F(PositionChange, AStateIsGoneOnFromWithTheSameAlone) {
  TempFolder folder;
  const std::string state = folder / "state";
  EXPECT_EQ(gf("generate", {"--prompt", "a", "--tokens=3", "--rope.rescale", "4", "--state-out", state}).status, 0);
  const auto on = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all{"--prompt", "", "--tokens=3", "--state-in", state};
    all.insert(all.end(), more.begin(), more.end());
    return gf("generate", all);
  };
  EXPECT_EQ(on({"--rope.rescale", "4"}).status, 0);
  for (const auto& other :
       {std::vector<std::string>{}, {"--rope.rescale", "2"}, {"--rope.rescale", "4", "--rope.rebase", "2"}}) {
    const ProgramResult result = on(other);
    EXPECT_EQ(result.status, 2);
    EXPECT_NE(result.err.find("its rope is rescale 4, rebase 1, and here it is "), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("try: the same --rope.rescale and --rope.rebase"), std::string::npos) << result.err;
  }
  const ProgramResult wrong = gf("generate", {"--prompt", "a", "--tokens=3", "--rope.rebase", "-1"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_NE(wrong.err.find("--rope.rebase is -1 and must be above 0"), std::string::npos) << wrong.err;
}

}  // namespace
}  // namespace gf
