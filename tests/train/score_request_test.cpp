// SPDX-License-Identifier: Apache-2.0
#include "train/score_request.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace gf {
namespace {

constexpr int64_t kVocab = 257;

ScoreRequest parsed(const std::string& line) {
  static const auto vocabulary = Vocabulary::open("byte");
  return parse_score_request(line, *vocabulary, kVocab);
}
void refused(const std::string& line, const std::vector<std::string>& pieces) {
  SCOPED_TRACE(line.substr(0, 100));
  expect_refused(pieces, [&] { parsed(line); });
}
using Tokens = std::vector<int32_t>;

TEST(ScoreRequest, TextsAndTokens) {
  const ScoreRequest texts = parsed(R"({"context": "ab", "continuation": "c"})");
  EXPECT_EQ(texts.context, (Tokens{98, 99}));
  EXPECT_EQ(texts.continuation, Tokens{100});
  const ScoreRequest tokens = parsed(R"({"continuation_tokens": [256, 0], "context_tokens": []})");
  EXPECT_EQ(tokens.context, Tokens{});
  EXPECT_EQ(tokens.continuation, (Tokens{256, 0}));
  EXPECT_EQ(parsed(R"({"context_tokens": [1], "continuation": "c", "context_tokens": [2]})").context, Tokens{2});
}

TEST(ScoreRequest, WhatElseIsThereIsPassedOver) {
  const ScoreRequest request =
      parsed(R"({"id": [1, [2]], "context": "", "doc": {"context": 5, "context_tokens": [999]}, "continuation": "c"})");
  EXPECT_EQ(request.context, Tokens{});
  EXPECT_EQ(request.continuation, Tokens{100});
}

TEST(ScoreRequest, WrongOnesAreRefused) {
  refused("nonsense", {"no JSON", "\"continuation\": TEXT"});
  refused("[1]", {"a JSON object is wanted, and this is a list", "\"continuation\": TEXT"});
  refused("{}", {"neither context nor context_tokens is there"});
  refused(R"({"context": "a"})", {"neither continuation nor continuation_tokens is there"});
  refused(R"({"context": "a", "context_tokens": [1], "continuation": "b"})",
          {"both context and context_tokens are there"});
  refused(R"({"context": 7, "continuation": "b"})", {"context is no text but 7"});
  refused(R"({"context_tokens": "7", "continuation": "b"})", {"context_tokens is no list but \"7\""});
  refused(R"({"context_tokens": {"7": [7]}, "continuation": "b"})", {"context_tokens is no list but an object"});
  for (const char* bad : {"1.5", "true", "null", "18446744073709551615", "1e2"})
    refused(cat(R"({"context_tokens": [1, )", bad, R"(], "continuation": "b"})"),
            {"context_tokens has ", "which is not the number of a token"});
  refused(R"({"context_tokens": [257], "continuation": "b"})",
          {"token 257 is not one of the model's 257", "[try: numbers from 0 to 256]"});
  refused(R"({"context_tokens": [-1], "continuation": "b"})",
          {"token -1 is not one of the model's 257", "[try: numbers from 0 to 256]"});
  refused(R"({"context": "a", "continuation": ""})", {"the continuation has no tokens"});
}

// Whoever sent it gets an answer, not the end of the program; and one that can be read.
TEST(ScoreRequest, HostileOnesAreBounded) {
  const std::string open(100000, '['), close(100000, ']'), long_text(100000, 'x');
  refused("{\"context_tokens\": [" + open + close + "], \"continuation\": \"a\"}", {"context_tokens has a list"});
  refused("{\"id\": " + open + close + ", \"context\": \"a\", \"continuation\": \"a\"}", {"nested deeper than"});
  for (const std::string& value : {"\"" + long_text + "\"", "0." + std::string(100000, '3'), long_text}) try {
      parsed("{\"context_tokens\": [" + value + "]}");
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      EXPECT_LT(std::string(e.what()).size(), 400u);
    }
}

}  // namespace
}  // namespace gf
