// SPDX-License-Identifier: Apache-2.0
#include "train/generate.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "base/random.h"
#include "support/expect_error.h"
#include "support/small_model.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

// Says the given bytes one after another, whatever it reads, and remembers what it read.
class Parrot final : public Decoder {
 public:
  explicit Parrot(std::string text, int64_t vocab_size = 257) : text_(std::move(text)), logits_(vocab_size) {}
  int64_t vocab_size() const override { return static_cast<int64_t>(logits_.size()); }
  std::span<const float> feed(std::span<const int32_t> tokens) override {
    read.insert(read.end(), tokens.begin(), tokens.end());
    std::ranges::fill(logits_, 0.0f);
    const bool more = said_ < text_.size();
    logits_[more ? static_cast<unsigned char>(text_[said_++]) + 1u : 0u] = 10;
    if (logits_.size() > 257) logits_[300] = 20;  // beyond the vocabulary
    return logits_;
  }
  std::vector<int32_t> read;

 private:
  std::string text_;
  std::vector<float> logits_;
  size_t said_ = 0;
};

struct Said {
  std::string text;
  Generation report;
};

Said say(Decoder& decoder, const GenerateOptions& options, std::string_view prompt = "p") {
  const auto vocabulary = Vocabulary::open("byte");
  Said said;
  said.report = generate(decoder, *vocabulary, prompt_tokens(*vocabulary, prompt), options,
                         [&](std::string_view piece) { said.text += piece; });
  return said;
}

constexpr Sampling kGreedy{.temperature = 0};

TEST(Generate, FeedsThePromptAndThenWhatItSays) {
  Parrot parrot("hello");
  const Said said = say(parrot, {.tokens = 3, .sampling = kGreedy}, "ab");
  EXPECT_EQ(said.text, "hel");
  EXPECT_EQ(said.report.end, Generation::End::tokens);
  EXPECT_EQ(said.report.tokens, 3);
  EXPECT_EQ(said.report.steps, 2);  // nobody asks what would follow the last one
  EXPECT_EQ(parrot.read, (std::vector<int32_t>{'a' + 1, 'b' + 1, 'h' + 1, 'e' + 1}));
}

TEST(Generate, EndsWithTheDocument) {
  Parrot parrot("hi");
  const Said said = say(parrot, {.tokens = 100, .sampling = kGreedy});
  EXPECT_EQ(said.text, "hi");
  EXPECT_EQ(said.report.end, Generation::End::document);
  EXPECT_EQ(said.report.tokens, 2);
}

TEST(Generate, EndsBeforeAStopText) {
  Parrot parrot("one. two. three.");
  const Said said = say(parrot, {.tokens = 100, .sampling = kGreedy, .stops = {"!", ". t"}});
  EXPECT_EQ(said.text, "one");
  EXPECT_EQ(said.report.end, Generation::End::stop);
}

TEST(Generate, EndsBetweenTokensWhereItIsAsked) {
  Parrot parrot("hello");
  const Said said =
      say(parrot, {.tokens = 100, .sampling = kGreedy, .asked_to_stop = [&] { return parrot.read.size() >= 3; }});
  EXPECT_EQ(said.text, "he");
  EXPECT_EQ(said.report.end, Generation::End::asked);
  EXPECT_EQ(said.report.tokens, 2);
  EXPECT_EQ(said.report.steps, 2);
  EXPECT_TRUE(said.report.unread.empty()) << "all that was said is read";
}

TEST(Generate, LeavesOutACharacterThatIsNotFinished) {
  Parrot parrot("5 \u20AC");
  const Said said = say(parrot, {.tokens = 4, .sampling = kGreedy});
  EXPECT_EQ(said.text, "5 ");
  EXPECT_EQ(said.report.left_out, 2u);
  EXPECT_EQ(said.report.begun, "\xE2\x82");
}

// Of which the first part of a character is read, and was not shown.
TEST(Generate, ATextThatGoesOnBeginsWithItsUnfinishedCharacter) {
  Parrot parrot("\u20AC5");
  const Said first = say(parrot, {.tokens = 1, .sampling = kGreedy});
  EXPECT_EQ(first.text, "");
  const Said second = say(parrot, {.tokens = 1, .sampling = kGreedy, .begun = first.report.begun});
  EXPECT_EQ(second.text, "");
  EXPECT_EQ(say(parrot, {.tokens = 2, .sampling = kGreedy, .begun = second.report.begun}).text, "\u20AC5");
}

// As in one piece, whether the first ended with the number of its tokens or was asked to.
TEST(Generate, ATextThatGoesOnEndsBeforeAStopTextThatHadBegun) {
  for (const bool asked : {false, true}) {
    Parrot parrot("olonso");
    GenerateOptions options{.tokens = 4, .sampling = kGreedy, .stops = {"ns"}};
    options.goes_on = !asked;
    if (asked) options.tokens = 100, options.asked_to_stop = [&] { return parrot.read.size() == 5; };  // "p", "olon"
    const Said first = say(parrot, options);
    EXPECT_EQ(first.text, "olo");
    EXPECT_EQ(first.report.begun, "n");
    EXPECT_EQ(first.report.left_out, 0u);
    Parrot rest("so");
    const Said second = say(rest, {.tokens = 9, .sampling = kGreedy, .begun = first.report.begun, .stops = {"ns"}});
    EXPECT_EQ(second.text, "");
    EXPECT_EQ(second.report.end, Generation::End::stop);
    Parrot same("so");  // with no stop text after all
    EXPECT_EQ(say(same, {.tokens = 2, .sampling = kGreedy, .begun = first.report.begun}).text, "nso");
  }
  Parrot parrot("olonso");
  const Said whole = say(parrot, {.tokens = 4, .sampling = kGreedy, .stops = {"ns"}});
  EXPECT_EQ(whole.text, "olon") << "which does not go on";
  EXPECT_EQ(whole.report.begun, "");
}

TEST(Generate, AnUnfinishedCharacterBeforeAStopTextIsLeftOutForGood) {
  Parrot parrot("5 \xE2\x82.");
  const Said said = say(parrot, {.tokens = 9, .sampling = kGreedy, .stops = {"."}});
  EXPECT_EQ(said.text, "5 ");
  EXPECT_EQ(said.report.left_out, 2u);
  EXPECT_EQ(said.report.begun, "");
}

TEST(Generate, TokensBeyondTheVocabularyNeverCome) {
  Parrot parrot("hello", 320);
  EXPECT_EQ(say(parrot, {.tokens = 5, .sampling = kGreedy}).text, "hello");
}

// A file of 256 bytes' tokens, whose size is rounded up to 320; the head favours one of those that stand for nothing.
TEST(Generate, TokensThatStandForNothingNeverCome) {
  const TempFolder folder;
  {
    std::ofstream file(folder / "vocabulary");
    for (int byte = 0; byte < 256; ++byte) file << fmt::format("{} b'\\x{:02x}' 1\n", byte + 1, byte);
  }
  const auto vocabulary = Vocabulary::open(folder / "vocabulary");
  ASSERT_EQ(vocabulary->size(), 320);
  for (const Sampling& sampling : {kGreedy, Sampling{}, Sampling{.top_k = 1}}) {
    Parrot parrot("", 320);
    std::string text;
    const Generation g = generate(parrot, *vocabulary, prompt_tokens(*vocabulary, "p"),
                                  {.tokens = 50, .sampling = sampling}, [&](std::string_view more) { text += more; });
    EXPECT_EQ(text.size(), g.tokens);
  }
}

TEST(Generate, APromptWithoutTokensBeginsADocument) {
  Parrot parrot("x");
  say(parrot, {.tokens = 1}, "");
  EXPECT_EQ(parrot.read, std::vector<int32_t>{kEndOfDocument});
}

TEST(Generate, WrongSettingsAreRefusedBeforeTheModelIsAsked) {
  Parrot parrot("x");
  expect_refused({"--tokens", "0"}, [&] { say(parrot, {.tokens = 0}); });
  expect_refused({"--tokens", "-3"}, [&] { say(parrot, {.tokens = -3}); });
  expect_refused({"--top-p", "2"}, [&] { say(parrot, {.tokens = 1, .sampling = {.top_p = 2}}); });
  expect_refused({"--stop"}, [&] { say(parrot, {.tokens = 1, .stops = {"a", ""}}); });
  Parrot small("x", 256);
  expect_refused({"257", "256"}, [&] { say(small, {.tokens = 1}); });
  EXPECT_TRUE(parrot.read.empty() && small.read.empty());
}

TEST(Generate, ATextGoesOnFromItsOwnBeginning) {
  ModelConfig config = small_config("x060c2", "x060", "gold");
  config.vocab_size = 300;
  LayerStack model(config);
  model.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  fill_hashed(model.parameters());
  const GenerateOptions options{.tokens = 40, .sampling = {.temperature = 0.8, .top_p = 0.9}, .seed = 5};
  StatefulDecoder decoder(model, {}), again(model, {});
  const auto vocabulary = Vocabulary::open("byte");
  // By tokens, since what the stream leaves out or holds back is none of this test's business.
  struct Listener final : Decoder {
    explicit Listener(Decoder& d) : inner(d) {}
    int64_t vocab_size() const override { return inner.vocab_size(); }
    std::span<const float> feed(std::span<const int32_t> t) override {
      read.insert(read.end(), t.begin(), t.end());
      return inner.feed(t);
    }
    Decoder& inner;
    std::vector<int32_t> read;
  };
  Listener whole(decoder), rest(again);
  const auto ignore = [](std::string_view) {};
  generate(whole, *vocabulary, prompt_tokens(*vocabulary, "abc"), options, ignore);
  ASSERT_GT(whole.read.size(), 15u);
  GenerateOptions fewer = options;
  fewer.tokens = 40 - 12;
  generate(rest, *vocabulary, std::span(whole.read).first(15), fewer, ignore);
  EXPECT_EQ(rest.read, whole.read);
}

// Texts that share a seed: the first is as it is alone, and none is one of a neighbouring seed.
TEST(Generate, EachTextOfASeedIsDrawnApart) {
  struct Even final : Decoder {  // all that comes is drawn
    int64_t vocab_size() const override { return 257; }
    std::span<const float> feed(std::span<const int32_t> tokens) override {
      read.insert(read.end(), tokens.begin(), tokens.end());
      return logits;
    }
    std::vector<float> logits = std::vector<float>(257);
    std::vector<int32_t> read;
  };
  const auto drawn = [](GenerateOptions options) {
    Even decoder;
    options.tokens = 12;
    say(decoder, options);
    return decoder.read;
  };
  EXPECT_EQ(drawn({.seed = 5, .number = 0}), drawn({.seed = 5}));
  EXPECT_EQ(drawn({.seed = 5, .number = 2}), drawn({.seed = 5, .number = 2}));
  std::set<std::vector<int32_t>> texts;
  for (uint64_t seed = 0; seed < 8; ++seed)
    for (uint64_t number = 0; number < 8; ++number) texts.insert(drawn({.seed = seed, .number = number}));
  EXPECT_EQ(texts.size(), 64u);
}

// Whoever made or gave the tokens before: penalties count them, so that a text goes on from its own beginning with
// these too, in one piece or two.
TEST(Generate, PenaltiesCountAllThatWasRead) {
  ModelConfig config = small_config("x060c2", "x060", "gold");
  config.vocab_size = 300;
  LayerStack model(config);
  model.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  fill_hashed(model.parameters());
  const auto vocabulary = Vocabulary::open("byte");
  GenerateOptions options{
      .tokens = 40, .sampling = kGreedy, .penalties = {.repetition = 1.3, .presence = 0.3, .frequency = 0.2}};
  const auto ignore = [](std::string_view) {};
  const auto prompt = prompt_tokens(*vocabulary, "abc");
  StatefulDecoder whole(model, {}), twice(model, {}), forgetful(model, {});
  ASSERT_EQ(generate(whole, *vocabulary, prompt, options, ignore).tokens, 40);
  const auto second_half_after = [&](StatefulDecoder& decoder, bool knows) {
    GenerateOptions half = options;
    half.tokens = 20;
    const Generation first = generate(decoder, *vocabulary, prompt, half, ignore);
    if (knows) half.read_before = decoder.counts();
    generate(decoder, *vocabulary, first.unread, half, ignore);
    return decoder.counts().times();
  };
  EXPECT_EQ(second_half_after(twice, true), whole.counts().times());
  EXPECT_NE(second_half_after(forgetful, false), whole.counts().times()) << "no penalty mattered";
}

}  // namespace
}  // namespace gf
