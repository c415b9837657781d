// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "support/tiny_run.h"

namespace gf {
namespace {

class GfScore : public testing::Test {
 protected:
  static void SetUpTestSuite() { run_ = new_run_that_read("the goldfinch says hello. ", "150"); }
  static void TearDownTestSuite() { delete run_; }
  static ProgramResult score(const std::string& requests) {
    return run_program("gf", {"score", "--checkpoint", run_->checkpoint(), "--vocab", "byte"}, {}, requests);
  }
  inline static TinyRun* run_;
};

TEST_F(GfScore, AnswersEachLineInItsPlace) {
  const ProgramResult result = score(
      "{\"context\": \"the goldf\", \"continuation\": \"inch\"}\n"
      "{\"context\": \"the goldf\", \"continuation\": \"lute\"}\n"
      "{\"context_tokens\": [117, 105, 102, 33, 104, 112, 109, 101, 103], \"continuation_tokens\": [106, 111, 100, "
      "105]}\n"
      "{\"context\": \"\", \"continuation\": \"t\"}");
  EXPECT_EQ(result.status, 0) << result.err;
  std::vector<double> logprobs;
  std::vector<std::string> rest;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    ASSERT_EQ(line.rfind("{\"logprob\": ", 0), 0u) << line;
    logprobs.push_back(std::stod(line.substr(12)));
    rest.push_back(line.substr(line.find(',')));
  }
  ASSERT_EQ(logprobs.size(), 4u) << result.out;
  EXPECT_GT(logprobs[0], -1);
  EXPECT_LT(logprobs[1], -5);
  EXPECT_NEAR(logprobs[2], logprobs[0], 1e-5);  // the same, as tokens
  EXPECT_EQ(rest[0], ", \"greedy\": true, \"tokens\": 4}");
  EXPECT_EQ(rest[1], ", \"greedy\": false, \"tokens\": 4}");
  EXPECT_EQ(rest[3].substr(rest[3].rfind(',')), ", \"tokens\": 1}");
}

TEST_F(GfScore, ABadLineIsToldAndTheOthersAnswered) {
  const std::string good = "{\"context\": \"a\", \"continuation\": \"b\"}\n";
  const std::vector<std::pair<std::string, std::string>> bad{
      {"nonsense", "no JSON"},
      {"[1]", "a JSON object is wanted, and this is a list"},
      {"{\"continuation\": \"b\"}", "neither context nor context_tokens is there"},
      {"{\"context\": \"a\", \"continuation\": \"\"}", "the continuation has no tokens"},
      {"{\"context_tokens\": [257], \"continuation\": \"b\"}", "token 257 is not one of the model's 257"},
      {"{\"context_tokens\": [-1], \"continuation\": \"b\"}", "token -1 is not one of the model's 257"},
      {"{\"context_tokens\": [1.5], \"continuation\": \"b\"}", "1.5"},
      {"{\"context\": 7, \"continuation\": \"b\"}", "context is no text"},
  };
  std::string requests = good;
  for (const auto& [line, message] : bad) requests += line + "\n" + good;
  const ProgramResult result = score(requests);
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), static_cast<long>(2 * bad.size() + 1));
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_NE(result.err.find("line " + std::to_string(2 * i + 2) + ": "), std::string::npos) << result.err;
    EXPECT_NE(result.err.find(bad[i].second), std::string::npos) << bad[i].second << ": " << result.err;
  }
}

// Lines come from other programs: none of them may end this one.
TEST_F(GfScore, ALineThatIsNestedDeepIsABadOne) {
  const std::string good = "{\"context\": \"a\", \"continuation\": \"b\"}\n", open(100000, '['), close(100000, ']');
  const ProgramResult result =
      score(good + "{\"context_tokens\": [" + open + close + "], \"continuation\": \"a\"}\n" + good +
            "{\"id\": " + open + close + ", \"context\": \"a\", \"continuation\": \"b\"}\n" + good);
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("line 2: context_tokens has a list"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("line 4: it is nested deeper than 128 levels"), std::string::npos) << result.err;
  EXPECT_LT(result.err.size(), 1000u);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 5) << result.out;
  size_t answers = 0;
  for (size_t at = 0; (at = result.out.find("\"logprob\"", at)) != std::string::npos; ++at) ++answers;
  EXPECT_EQ(answers, 3u) << result.out;
}

// They have their numbers, and no answers.
TEST_F(GfScore, BlankLinesArePassedOver) {
  const std::string good = "{\"context\": \"a\", \"continuation\": \"b\"}\n";
  const ProgramResult result = score("\n" + good + " \t\r\n\n" + good + "\n"), wrong = score("\n\n{\n" + good);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2) << result.out;
  EXPECT_EQ(wrong.status, 2);
  EXPECT_NE(wrong.err.find("line 3: no JSON"), std::string::npos) << wrong.err;
}

// Such as a file of something else, without line ends.
TEST_F(GfScore, AnEndlessLineIsABadOne) {
  const ProgramResult result =
      run_program("/bin/bash", {"-c", "(head -c 300000000 /dev/zero && echo && echo \"$0\") | \"$@\"",
                                "{\"context\": \"a\", \"continuation\": \"b\"}", std::string(GF_BIN_DIR) + "/gf",
                                "score", "--checkpoint", run_->checkpoint(), "--vocab", "byte"});
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("line 1: a line of more than 268435456 bytes"), std::string::npos) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2) << result.out;
  EXPECT_NE(result.out.find("\n{\"logprob\": "), std::string::npos) << result.out;
}

#if !defined(GF_SANITIZED)  // which takes more, and cannot live with a limit on address space
// 3,000,000 positions of this model are 800 MB.
TEST_F(GfScore, ARequestThatTakesMoreMemoryThanThereIsIsABadLine) {
  const std::string good = "{\"context\": \"a\", \"continuation\": \"b\"}\n";
  const std::string large = "{\"context\": \"" + std::string(3000000, 'a') + "\", \"continuation\": \"b\"}\n";
  const auto limited = [&](const std::string& kib, const std::string& requests) {
    return run_program("/bin/bash",
                       {"-c", "ulimit -v " + kib + " && exec \"$@\"", "bash", std::string(GF_BIN_DIR) + "/gf", "score",
                        "--checkpoint", run_->checkpoint(), "--vocab", "byte"},
                       {{"OMP_NUM_THREADS", "1"}}, requests);
  };
  const ProgramResult result = limited("600000", good + large + good);
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 3) << result.out;
  EXPECT_NE(result.out.find("\"error\":\"3000001 tokens need"), std::string::npos) << result.out;
  for (const char* piece : {"line 2: 3000001 tokens need 798 MB", "are free", "at most "})
    EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
  const ProgramResult nothing = limited("140000", good);
  EXPECT_EQ(nothing.status, 2) << nothing.err;
  EXPECT_NE(nothing.err.find("scoring takes "), std::string::npos) << nothing.err;
}
#endif

}  // namespace
}  // namespace gf
