// SPDX-License-Identifier: Apache-2.0
// gf generate as a user meets it: a model that has learned one sentence, and one that knows nothing.
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/files.h"
#include "support/tiny_run.h"
#include "support/world_file.h"

namespace gf {
namespace {

// A thread count for the programs that run while it lives.
class Threads {
 public:
  explicit Threads(const char* count) { setenv("OMP_NUM_THREADS", count, 1); }
  ~Threads() { unsetenv("OMP_NUM_THREADS"); }
};

class GfGenerate : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    std::string text;
    while (text.size() < 4000) text += "the goldfinch says \u20AC5. ";
    write_byte_tokens(*folder_ / "data", text);
    learned_ =
        new TinyRun({"--train.data_file", *folder_ / "data", "--train.micro_bsz", "8", "--train.max_steps", "150",
                     "--train.my_exit_tokens", "100000", "--train.lr_init", "5e-3", "--train.lr_final", "5e-3"});
    fresh_ = new TinyRun({"--train.train_stage", "1"});
  }
  static void TearDownTestSuite() {
    delete folder_;
    delete learned_;
    delete fresh_;
  }
  static ProgramResult generate(const TinyRun& run, const std::string& prompt, std::vector<std::string> more) {
    std::vector<std::string> arguments{"generate", "--checkpoint", run.checkpoint(), "--vocab", "byte",
                                       "--prompt", prompt};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program("gf", arguments);
  }
  static std::string text(const TinyRun& run, const std::string& prompt, const std::vector<std::string>& more) {
    const ProgramResult result = generate(run, prompt, more);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }
  static void expect_refused(const std::vector<std::string>& more, const std::vector<std::string>& pieces) {
    const ProgramResult result = generate(*fresh_, "a", more);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(result.out, "");
    for (const std::string& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
  }

  inline static TempFolder* folder_;
  inline static TinyRun *learned_, *fresh_;
};

TEST_F(GfGenerate, SaysWhatItLearned) {
  const ProgramResult result = generate(*learned_, "the goldf", {"--tokens", "22", "--temperature", "0"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "inch says \u20AC5. the go");
  EXPECT_NE(result.err.find("prompt: 9 tokens"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("text: 22 tokens"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("tokens/s; ended by --tokens"), std::string::npos) << result.err;
}

TEST_F(GfGenerate, LeavesOutHalfACharacter) {
  const ProgramResult result = generate(*learned_, "the goldfinch sa", {"--tokens", "5", "--temperature=0"});
  EXPECT_EQ(result.out, "ys ");
  EXPECT_NE(result.err.find("left out an unfinished character at the end (2 bytes)"), std::string::npos) << result.err;
}

TEST_F(GfGenerate, EndsBeforeAStopText) {
  const ProgramResult result =
      generate(*learned_, "the goldf", {"--tokens=100", "--temperature=0", "--stop=never", "--stop", "\u20AC5"});
  EXPECT_EQ(result.out, "inch says ");
  EXPECT_NE(result.err.find("ended by --stop"), std::string::npos) << result.err;
}

TEST_F(GfGenerate, TheSeedDecidesAndNothingElse) {
  const std::vector<std::string> options{"--tokens", "60", "--top-p", "0.95", "--seed", "3"};
  std::string one, two;
  {
    const Threads threads("1");
    one = text(*fresh_, "a", options);
  }
  {
    const Threads threads("2");
    two = text(*fresh_, "a", options);
  }
  EXPECT_GT(one.size(), 10u);
  EXPECT_EQ(one, two);
  EXPECT_NE(one, text(*fresh_, "a", {"--tokens", "60", "--top-p", "0.95", "--seed", "4"}));
}

TEST_F(GfGenerate, WithOneCandidateTheSeedDoesNotMatter) {
  const std::string greedy = text(*fresh_, "a", {"--tokens=30", "--temperature=0"});
  EXPECT_EQ(text(*fresh_, "a", {"--tokens=30", "--top-k=1", "--seed=1"}), greedy);
  EXPECT_EQ(text(*fresh_, "a", {"--tokens=30", "--top-p=1e-6", "--seed=2"}), greedy);
}

TEST_F(GfGenerate, AnEmptyPromptBeginsADocument) {
  const ProgramResult result = generate(*fresh_, "", {"--tokens", "3"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.err.find("prompt: 1 token in"), std::string::npos) << result.err;
}

TEST_F(GfGenerate, APromptMayBeLongerThanCtxLen) {
  std::string prompt;
  while (prompt.size() < 200) prompt += "the goldfinch says \u20AC5. ";
  EXPECT_EQ(text(*learned_, prompt + "the goldf", {"--tokens=4", "--temperature=0"}), "inch");
}

TEST_F(GfGenerate, WrongInputIsRefused) {
  expect_refused({}, {"tokens", "usage: gf generate"});
  expect_refused({"--tokens=0"}, {"--tokens is 0"});
  expect_refused({"--tokens=-4"}, {"--tokens is -4"});
  expect_refused({"--tokens=some"}, {"tokens", "some"});
  expect_refused({"--tokens=1", "--temperature=-0.5"}, {"--temperature is -0.5"});
  expect_refused({"--tokens=1", "--temperature=nan"}, {"--temperature is nan"});
  expect_refused({"--tokens=1", "--top-p=0"}, {"--top-p is 0"});
  expect_refused({"--tokens=1", "--top-p=1.5"}, {"--top-p is 1.5"});
  expect_refused({"--tokens=1", "--top-k=-2"}, {"--top-k is -2"});
  expect_refused({"--tokens=1", "--stop", ""}, {"--stop"});
  expect_refused({"--tokens=1", "--hot"}, {"--hot"});
}

TEST_F(GfGenerate, AWrongFileIsRefused) {
  const auto refused = [&](const std::string& checkpoint, const std::string& vocab,
                           const std::vector<std::string>& pieces) {
    const ProgramResult result =
        run_program("gf", {"generate", "--checkpoint", checkpoint, "--vocab", vocab, "--prompt", "a", "--tokens", "1"});
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(result.out, "");
    for (const std::string& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
  };
  const std::string nowhere = *folder_ / "nowhere", wide = *folder_ / "wide.txt";
  write_file(wide, world_file({"ab", "cd"}));
  refused(nowhere, "byte", {nowhere});
  refused(fresh_->checkpoint(), nowhere, {nowhere});
  refused(fresh_->checkpoint(), wide, {"the vocabulary has 320 tokens", "vocab_size is 257", "--vocab"});
}

TEST_F(GfGenerate, IsInTheHelp) {
  const ProgramResult help = run_program("gf", {"--help"});
  EXPECT_NE(help.out.find("generate"), std::string::npos);
  EXPECT_NE(help.out.find("eval"), std::string::npos);
  const ProgramResult options = run_program("gf", {"generate", "--help"});
  EXPECT_EQ(options.status, 0);
  for (const char* option : {"--top-p", "--top-k", "--temperature", "--seed", "--stop"})
    EXPECT_NE(options.out.find(option), std::string::npos) << option;
}

}  // namespace
}  // namespace gf
