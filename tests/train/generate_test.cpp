// SPDX-License-Identifier: Apache-2.0
#include "train/generate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"
#include "support/expect_error.h"

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

TEST(Generate, LeavesOutACharacterThatIsNotFinished) {
  Parrot parrot("5 \u20AC");
  const Said said = say(parrot, {.tokens = 4, .sampling = kGreedy});
  EXPECT_EQ(said.text, "5 ");
  EXPECT_EQ(said.report.unfinished_bytes, 2u);
}

TEST(Generate, TokensBeyondTheVocabularyNeverCome) {
  Parrot parrot("hello", 320);
  EXPECT_EQ(say(parrot, {.tokens = 5, .sampling = kGreedy}).text, "hello");
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

// A small model with fresh parameters; those of its blocks' last products, which begin as zeros, made other than that.
struct SmallModel {
  static ModelConfig config() {
    ModelConfig c;
    c.tmix = "x060c2", c.tmix2 = "gold";
    c.ctx_len = 100, c.vocab_size = 300, c.n_layer = 3, c.n_embd = 32, c.head_size = 16;
    c.resolve();
    c.check();
    return c;
  }
  SmallModel() {
    layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    initialise(layers.parameters(), 7);
    for (const auto& p : layers.parameters().all())
      if (p->spec().init.kind == Init::Kind::constant && p->spec().init.scale == 0)
        for (int64_t i = 0; i < p->shape().numel(); ++i)
          p->value().data<float>()[i] =
              0.1f * static_cast<float>(Random(7, p->name()).uniform(static_cast<uint64_t>(i)));
  }
  // The logits that a forward pass over these tokens and nothing else has at its last position.
  std::vector<float> logits_after(const std::vector<int32_t>& tokens) const {
    Arena arena(kCpu);
    Tape tape(arena, Tape::Mode::evaluate);
    const auto T = static_cast<int64_t>(tokens.size()), V = layers.config().vocab_size;
    const Batch batch{Tensor::of<int32_t>({1, T}, tokens), {}, {0}};
    const Tensor all = layers.head()->logits(layers.forward(tape, {batch}, {}).x_BTC).value();
    const float* const last = all.data<float>() + (T - 1) * V;
    return {last, last + V};
  }
  LayerStack layers{config()};
};

std::vector<int32_t> some_tokens(size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(Random(1, "tokens").bits(i) % 300));
  return tokens;
}

// The matrix products of another window length add in another order: a few roundings of 6e-8 on logits of about 1.
constexpr float kRounding = 2e-5f;

TEST(WindowDecoder, GivesTheLogitsOfTheLastPosition) {
  const SmallModel model;
  const std::vector<int32_t> tokens = some_tokens(100);
  for (const size_t length : {1, 2, 63, 64, 65, 100}) {
    const std::vector<int32_t> head(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(length));
    WindowDecoder decoder(model.layers);
    const auto logits = decoder.feed(head);
    const std::vector<float> want = model.logits_after(head);
    for (size_t v = 0; v < want.size(); ++v)
      ASSERT_NEAR(logits[v], want[v], kRounding) << length << " tokens, logit " << v;
  }
}

TEST(WindowDecoder, TokensOneByOneGiveTheSameBits) {
  const SmallModel model;
  const std::vector<int32_t> tokens = some_tokens(130);
  WindowDecoder at_once(model.layers), one_by_one(model.layers);
  const auto want = at_once.feed(tokens);
  std::span<const float> got;
  for (const int32_t token : tokens) got = one_by_one.feed({&token, 1});
  EXPECT_TRUE(std::ranges::equal(got, want));
}

TEST(WindowDecoder, LooksAtTheLastCtxLenTokens) {
  const SmallModel model;
  const std::vector<int32_t> tokens = some_tokens(130);
  WindowDecoder decoder(model.layers);
  const auto logits = decoder.feed(tokens);
  const std::vector<float> want = model.logits_after({tokens.end() - 100, tokens.end()});
  for (size_t v = 0; v < want.size(); ++v) ASSERT_NEAR(logits[v], want[v], kRounding) << v;
  // The token before the window is not seen, one in it is.
  WindowDecoder same(model.layers), other(model.layers);
  std::vector<int32_t> changed = tokens;
  changed[29] = (changed[29] + 1) % 300;
  EXPECT_TRUE(std::ranges::equal(same.feed(changed), logits));
  changed[30] = (changed[30] + 1) % 300;
  EXPECT_FALSE(std::ranges::equal(other.feed(changed), logits));
}

TEST(WindowDecoder, RefusesATokenThatTheModelDoesNotKnow) {
  const SmallModel model;
  for (const int32_t bad : {300, -1})
    expect_refused({cat("token ", bad), "300"}, [&] {
      WindowDecoder(model.layers).feed(std::vector<int32_t>{1, bad});
    });
}

TEST(Generate, ATextGoesOnFromItsOwnBeginning) {
  const SmallModel model;
  const GenerateOptions options{.tokens = 40, .sampling = {.temperature = 0.8, .top_p = 0.9}, .seed = 5};
  WindowDecoder decoder(model.layers), again(model.layers);
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

}  // namespace
}  // namespace gf
