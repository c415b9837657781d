// SPDX-License-Identifier: Apache-2.0
// gf eval as a user meets it.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "io/data/token_stream.h"
#include "support/files.h"
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

TEST_F(GfEval, CountsOnlyWhatTheMaskMarks) {
  const std::string masked = *folder_ / "masked";
  std::string marks(kTokens, '\0');
  for (size_t i = 0; i < marks.size(); ++i) marks[i] = i % 7 == 2 ? '\1' : '\0';
  for (const char* part : {".bin", ".idx"}) std::filesystem::copy_file(data() + part, masked + part);
  write_file(masked + ".mask.bin", marks);
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"eval", "--checkpoint", run_->checkpoint(), "--data", masked, "--masked"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  // Marked one at a time, in the first window: the mean is that of what each gives.
  double loss = 0, correct = 0;
  int64_t tokens = 0;
  for (int64_t t = 1; t <= TinyRun::kCtxLen; ++t) {
    if (t % 7 != 2) continue;
    std::string one(kTokens, '\0');
    one[static_cast<size_t>(t)] = '\1';
    write_file(masked + ".mask.bin", one);
    const auto got = nlohmann::json::parse(run_program("gf", with({"--max-samples", "1"})).out);
    EXPECT_EQ(got["tokens"], 1);
    loss += got["loss"].get<double>(), correct += got["acc"].get<double>(), ++tokens;
  }
  write_file(masked + ".mask.bin", marks);
  const auto got = nlohmann::json::parse(run_program("gf", with({"--max-samples", "1"})).out);
  EXPECT_EQ(got["tokens"], tokens);
  // Logits of one position and of several come from products of other shapes: a few roundings of 6e-8.
  EXPECT_NEAR(got["loss"].get<double>(), loss / static_cast<double>(tokens), 2e-6);
  EXPECT_EQ(got["acc"], correct / static_cast<double>(tokens));

  write_file(masked + ".mask.bin", std::string(kTokens - 1, '\1'));
  expect_refused(with({}), {masked + ".mask.bin", "999 bytes", "1000 tokens"});
  write_file(masked + ".mask.bin", std::string(kTokens, '\0'));
  expect_refused(with({}), {masked, "mark no token"});
  std::filesystem::remove(masked + ".mask.bin");
  expect_refused(with({}), {masked + ".mask.bin", "No such file"});
}

TEST_F(GfEval, TellsOfEachPartOfTheWindow) {
  const auto whole = numbers({"--ctx-len", "10"}), parts = numbers({"--ctx-len", "10", "--by-position", "3"});
  EXPECT_EQ(parts["loss"], whole["loss"]);
  EXPECT_EQ(parts["acc"], whole["acc"]);
  EXPECT_EQ(parts["ctx_len"], 10);
  EXPECT_EQ(parts["rescale"], 1);
  ASSERT_EQ(parts["by_position"].size(), 3u);
  const int64_t windows = kTokens / 11;
  double loss = 0, tokens = 0;
  for (const auto& [part, size, end] : {std::tuple(0, 4, 4), {1, 3, 7}, {2, 3, 10}}) {
    const auto& p = parts["by_position"][static_cast<size_t>(part)];
    EXPECT_EQ(p["end"], end);
    EXPECT_EQ(p["tokens"], size * windows);
    loss += p["loss"].get<double>() * p["tokens"].get<double>(), tokens += p["tokens"].get<double>();
  }
  EXPECT_NEAR(loss / tokens, whole["loss"].get<double>(), 1e-12);  // doubles, added in another order
  // What comes before a position decides on its loss, not what comes after.
  const auto shorter = numbers({"--ctx-len", "10", "--by-position", "10", "--max-samples", "1"});
  const auto first = numbers({"--ctx-len", "4", "--by-position", "4", "--max-samples", "1"});
  for (size_t i = 0; i < 4; ++i)
    EXPECT_NEAR(first["by_position"][i]["loss"].get<double>(), shorter["by_position"][i]["loss"].get<double>(), 2e-6);
  const auto all = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"eval", "--checkpoint", run_->checkpoint(), "--data", data()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  expect_refused(all({"--by-position", "0"}), {"--by-position is 0", "16 positions", "from 1 to 16"});
  expect_refused(all({"--by-position", "17"}), {"--by-position is 17", "16 positions"});
  expect_refused(all({"--rope.rescale", "2"}), {"--rope.rescale is given, and the model was trained without model.rope",
                                                "try: without --rope.rescale\n"});
  expect_refused(all({"--rope.rebase", "2"}), {"--rope.rebase", "without model.rope", "try: without --rope.rebase\n"});
  expect_refused(all({"--rope.rebase", "2", "--rope.rescale", "2"}),
                 {"--rope.rescale and --rope.rebase are given", "try: without --rope.rescale and --rope.rebase\n"});
}

// As the model would be that had been trained with these.
TEST_F(GfEval, AnotherPositionEncodingThanInTraining) {
  const TinyRun run({"--train.train_stage", "1", "--model.rope.base=50"});
  const auto loss = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"eval", "--checkpoint", run.checkpoint(), "--data", data(), "--ctx-len", "40"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_program("gf", arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    return nlohmann::json::parse(result.out)["loss"].get<double>();
  };
  const auto of_a_model = [&](double rescale, double rebase) {
    const TrainedModel model = open_model(run.checkpoint(), [&](ModelConfig& config) {
      config.rope = RopeConfig{50, rescale, rebase};
    });
    const WindowReader reader(std::make_shared<TokenFiles>(std::vector{data()}), 40, TinyRun::kVocab);
    return evaluate(*model.layers, reader, reader.windows(), 5).loss;
  };
  // Fresh attention has hardly anything to say, so the losses differ little, but by far more than the last bits.
  EXPECT_NEAR(loss({}), of_a_model(1, 1), kLastBits);
  EXPECT_NEAR(loss({"--rope.rescale", "4"}), of_a_model(4, 1), kLastBits);
  EXPECT_NEAR(loss({"--rope.rebase", "100", "--rope.rescale", "2"}), of_a_model(2, 100), kLastBits);
  EXPECT_EQ(loss({"--rope.rescale", "1"}), loss({}));
  expect_refused({"eval", "--checkpoint", run.checkpoint(), "--data", data(), "--rope.rescale", "0"},
                 {"--rope.rescale is 0 and must be above 0", "try: without --rope.rescale"});
  expect_refused({"eval", "--checkpoint", run.checkpoint(), "--data", data(), "--rope.rebase", "-1"},
                 {"--rope.rebase is -1", "try: without --rope.rebase"});
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
