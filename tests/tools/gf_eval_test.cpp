// SPDX-License-Identifier: Apache-2.0
// gf eval as a user meets it.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "io/data/token_stream.h"
#include "support/tiny_run.h"
#include "train/evaluate.h"
#include "train/parameters.h"

namespace gf {
namespace {

class GfEval : public testing::Test {
 protected:
  static constexpr int64_t kTokens = 1000;

  static void SetUpTestSuite() {
    run_ = new TinyRun({"--train.train_stage", "1"});
    folder_ = new TempFolder;
    std::string text;
    const Random random(1, "text");
    for (uint64_t i = 0; i < kTokens; ++i) text += static_cast<char>('a' + random.bits(i) % 26);
    write_byte_tokens(data(), text);
  }
  static void TearDownTestSuite() {
    delete run_;
    delete folder_;
  }
  static std::string data() { return *folder_ / "data"; }
  static ProgramResult eval(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"eval", "--checkpoint", run_->checkpoint(), "--data", data()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program("gf", arguments);
  }
  static nlohmann::json numbers(const std::vector<std::string>& more = {}) {
    const ProgramResult result = eval(more);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(result.out.find('\n'), result.out.size() - 1) << "not one line: " << result.out;
    return nlohmann::json::parse(result.out);
  }
  static void expect_refused(const std::vector<std::string>& arguments, const std::vector<std::string>& pieces) {
    const ProgramResult result = run_program("gf", arguments);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(result.out, "");
    for (const std::string& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
  }

  inline static TinyRun* run_;
  inline static TempFolder* folder_;
};

// As evaluate() sums up, over the same windows. A test does not flush denormals as the program does, which moves the
// last bits at most.
constexpr double kLastBits = 1e-7;

Evaluation in_process(const std::string& checkpoint, const std::string& data, int64_t ctx_len, int64_t windows,
                      int64_t batch) {
  const TrainedModel model = open_model(checkpoint);
  const WindowReader reader(std::make_shared<TokenFiles>(std::vector{data}), ctx_len, TinyRun::kVocab);
  return evaluate(*model.layers, reader, windows, batch);
}

TEST_F(GfEval, LooksAtAllWindowsOfTheTrainedLength) {
  const auto got = numbers();
  constexpr int64_t kWindows = kTokens / (TinyRun::kCtxLen + 1);
  const Evaluation want = in_process(run_->checkpoint(), data(), TinyRun::kCtxLen, kWindows, kWindows);
  EXPECT_EQ(got["tokens"], kWindows * TinyRun::kCtxLen);
  EXPECT_NEAR(got["loss"].get<double>(), want.loss, kLastBits);
  EXPECT_EQ(got["acc"], want.accuracy);
  EXPECT_EQ(got.size(), 3u);
}

// Fresh logits are not zero but have a spread of about one, which adds up to half its square.
TEST_F(GfEval, AFreshModelKnowsNothing) {
  const double loss = numbers()["loss"], nothing = std::log(static_cast<double>(TinyRun::kVocab));
  EXPECT_GT(loss, nothing - 0.5);
  EXPECT_LT(loss, nothing + 1.5);
}

TEST_F(GfEval, TakesAnotherLengthAndFewerWindows) {
  const auto longer = numbers({"--ctx-len", "40"});
  EXPECT_EQ(longer["tokens"], kTokens / 41 * 40);
  EXPECT_NEAR(longer["loss"].get<double>(), in_process(run_->checkpoint(), data(), 40, kTokens / 41, 7).loss,
              kLastBits);
  const auto first = numbers({"--max-samples", "2", "--ctx-len", "10"});
  EXPECT_EQ(first["tokens"], 20);
  EXPECT_NEAR(first["loss"].get<double>(), in_process(run_->checkpoint(), data(), 10, 2, 1).loss, kLastBits);
  EXPECT_EQ(numbers({"--ctx-len", "999"})["tokens"], 999);
  EXPECT_EQ(numbers({"--max-samples", "100000"}), numbers());
}

// Products of other shapes add in another order: a few roundings of 6e-8 of each position's loss, which is about 6.
TEST_F(GfEval, TheBatchSizeDoesNotMatter) {
  const double want = numbers()["loss"];
  for (const int64_t batch : {1, 3, 16}) {
    const Evaluation got =
        in_process(run_->checkpoint(), data(), TinyRun::kCtxLen, kTokens / (TinyRun::kCtxLen + 1), batch);
    EXPECT_NEAR(got.loss, want, 2e-6) << batch;
  }
}

TEST_F(GfEval, TheLastDigitsAreThere) {
  const std::string out = eval().out;
  const double loss = nlohmann::json::parse(out)["loss"];
  EXPECT_NE(loss, static_cast<double>(static_cast<float>(loss))) << out;
}

TEST_F(GfEval, WrongInputIsRefused) {
  const std::string checkpoint = run_->checkpoint(), nowhere = *folder_ / "nowhere";
  expect_refused({"eval", "--data", data()}, {"checkpoint", "usage: gf eval"});
  expect_refused({"eval", "--checkpoint", checkpoint}, {"data", "usage: gf eval"});
  expect_refused({"eval", "--checkpoint", nowhere, "--data", data()}, {nowhere});
  expect_refused({"eval", "--checkpoint", checkpoint, "--data", nowhere}, {nowhere});
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"eval", "--checkpoint", checkpoint, "--data", data()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  expect_refused(with({"--ctx-len=0"}), {"--ctx-len is 0"});
  expect_refused(with({"--ctx-len=-1"}), {"--ctx-len is -1"});
  expect_refused(with({"--ctx-len=9223372036854775807"}), {"--ctx-len is 9223372036854775807"});
  expect_refused(with({"--ctx-len=1000"}), {"--ctx-len is 1000", "1000 tokens"});
  expect_refused(with({"--ctx-len=many"}), {"ctx-len", "many"});
  expect_refused(with({"--max-samples=-2"}), {"--max-samples is -2"});
  expect_refused(with({"more"}), {"usage: gf eval"});
}

TEST_F(GfEval, DataOfAnotherVocabularyIsRefused) {
  const std::string wide = *folder_ / "wide";
  BinIdxWriter writer(wide, 65536);
  std::vector<int32_t> tokens(100, 1);
  tokens[50] = 40000;
  writer.append(tokens);
  writer.finish();
  expect_refused({"eval", "--checkpoint", run_->checkpoint(), "--data", wide}, {"40000", "257", wide});
}

}  // namespace
}  // namespace gf
