// SPDX-License-Identifier: Apache-2.0
#include "train/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/process_memory.h"
#include "base/random.h"
#include "base/trace.h"
#include "support/expect_error.h"
#include "support/model_variants.h"
#include "support/small_model.h"
#include "support/threads.h"

namespace gf {
namespace {

// Of the norm: pieces of other lengths add in other orders. The bound.
constexpr double kClose = 1e-5;

double distance(std::span<const float> got, std::span<const float> want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(error / norm);
}

std::span<const float> row(const Tensor& logits, int64_t i) {
  return {logits.slice(i, i + 1).data<float>(), static_cast<size_t>(logits.size(1))};
}

// Of 33 tokens and heads of 16, with values that make every layer do something.
struct Model {
  explicit Model(ModelConfig config) : layers(checked(std::move(config))) {
    layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    fill_hashed(layers.parameters());
  }
  static ModelConfig checked(ModelConfig c) {
    c.resolve();
    c.check();
    return c;
  }
  // Of one pass over all of them: (tokens, vocab)
  Tensor logits(const std::vector<int32_t>& tokens) const {
    const auto T = std::ssize(tokens);
    const Tensor all = logits_of(layers, {Tensor::of<int32_t>({1, T}, tokens), {}, {0}});
    return all.view({T, all.size(2)});
  }
  LayerStack layers;
};

std::vector<int32_t> some_tokens(size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(Random(1, "tokens").bits(i) % 33));
  return tokens;
}

class DecoderOf : public testing::TestWithParam<ModelVariant> {
 public:
  static ModelConfig config() { return GetParam().config(); }
};

TEST_P(DecoderOf, PiecesGiveTheLogitsOfTheWholePass) {
  const Model model(config());
  const auto tokens = some_tokens(330);  // more than ctx_len, and than a block of kept rows
  const Tensor want = model.logits(tokens);
  for (const bool expanded : {true, false})
    for (const int64_t chunk : {1, 7, 64, 1000}) {
      StatefulDecoder decoder(model.layers, {.past = {.expanded = expanded}, .chunk = chunk});
      const std::span<const int32_t> prompt = std::span(tokens).first(300);
      EXPECT_LT(distance(decoder.feed(prompt), row(want, 299)), kClose) << expanded << " chunk " << chunk;
      for (int64_t t = 300; t < 320; ++t)
        ASSERT_LT(distance(decoder.feed({&tokens[static_cast<size_t>(t)], 1}), row(want, t)), kClose) << t;
      EXPECT_LT(distance(decoder.feed(std::span(tokens).last(10)), row(want, 329)), kClose) << "a second text";
    }
}

TEST_P(DecoderOf, TokenByTokenFromTheFirst) {
  const Model model(config());
  const auto tokens = some_tokens(40);
  const Tensor want = model.logits(tokens);
  StatefulDecoder decoder(model.layers, {});
  for (int64_t t = 0; t < 40; ++t)
    ASSERT_LT(distance(decoder.feed({&tokens[static_cast<size_t>(t)], 1}), row(want, t)), kClose) << t;
}

TEST_P(DecoderOf, AllLogitsOfAText) {
  const Model model(config());
  const auto tokens = some_tokens(90);
  const Tensor want = model.logits(tokens);
  for (const int64_t chunk : {1, 16, 1000}) {
    StatefulDecoder decoder(model.layers, {.chunk = chunk});
    decoder.feed(std::span(tokens).first(50));
    const Tensor got = decoder.feed_all(std::span(tokens).last(40));
    for (int64_t t = 0; t < 40; ++t) ASSERT_LT(distance(row(got, t), row(want, 50 + t)), kClose) << t;
  }
}

TEST_P(DecoderOf, GrowsByWhatIsForetold) {
  const Model model(config());
  const auto tokens = some_tokens(8 * GrowingRows::kBlock);  // a page of tokens
  for (const bool expanded : {true, false})
    for (const DType cache : {DType::f32, DType::bf16}) {
      const Past::Options options{.expanded = expanded, .cache = cache};
      StatefulDecoder decoder(model.layers, {.past = options});
      decoder.feed(tokens);
      EXPECT_EQ(decoder.past().growing_bytes(), tokens.size() * bytes_a_position(model.layers.config(), options));
    }
}

// Rounded to 8 bits, keys and values give nearly the same: 2^-9 of each on average, over a few layers.
TEST_P(DecoderOf, KeptAsBf16GivesNearlyTheSame) {
  const Model model(config());
  const auto tokens = some_tokens(60);
  const Tensor want = model.logits(tokens);
  for (const bool expanded : {true, false}) {
    StatefulDecoder decoder(model.layers, {.past = {.expanded = expanded, .cache = DType::bf16}});
    EXPECT_LT(distance(decoder.feed(tokens), row(want, 59)), 0.02) << expanded;
  }
}

std::vector<float> values(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

// What is made anew is rounded like what is kept. Of a text that is read at once both are made in the same pieces.
TEST_P(DecoderOf, BothCachesGiveTheSameBitsAfterAText) {
  const Model model(config());
  const auto tokens = some_tokens(300);
  for (const DType cache : {DType::f32, DType::bf16})
    for (const size_t count : {1, 20, 256, 300}) {
      const auto text = std::span(tokens).first(count);
      StatefulDecoder compressed(model.layers, {.past = {.expanded = false, .cache = cache}});
      StatefulDecoder expanded(model.layers, {.past = {.expanded = true, .cache = cache}});
      EXPECT_EQ(values(compressed.feed(text)), values(expanded.feed(text))) << name_of(cache) << ", " << count;
    }
}

// Of token by token one makes each position by itself, the other all of them at once: products of other lengths differ
// by float32's rounding, and few numbers lie where that changes how they are rounded to bf16. Were only one of both
// rounded, they would differ by about as much as either does from what is kept as f32.
TEST_P(DecoderOf, BothCachesAttendToTheSameNumbersTokenByToken) {
  const Model model(config());
  const auto tokens = some_tokens(120);
  const auto decoder = [&](bool expanded, DType cache) {
    StatefulDecoder made(model.layers, {.past = {.expanded = expanded, .cache = cache}});
    made.feed(std::span(tokens).first(20));
    return made;
  };
  StatefulDecoder compressed = decoder(false, DType::bf16), expanded = decoder(true, DType::bf16),
                  whole = decoder(true, DType::f32);
  double between = 0, rounding = 0;
  for (size_t t = 20; t < tokens.size(); ++t) {
    const std::span<const int32_t> token(&tokens[t], 1);
    const auto logits = expanded.feed(token);
    between += distance(compressed.feed(token), logits);
    rounding += distance(whole.feed(token), logits);
  }
  EXPECT_LE(between, 0.2 * rounding);
}

INSTANTIATE_TEST_SUITE_P(Every, DecoderOf, testing::ValuesIn(kModelVariants),
                         [](const auto& variant) { return std::string(variant.param.name); });

// Of a prompt, that is: what was asked to be read at once always is.
TEST(StatefulDecoder, AskedToStopItLeavesTheRestUnread) {
  const Model model(small_config("x060c2", "x060", "gold"));
  const std::vector<int32_t> tokens = some_tokens(9);
  bool asked = false;
  StatefulDecoder decoder(model.layers, {.chunk = 4, .asked_to_stop = [&] { return asked; }}), first(model.layers, {});
  asked = true;
  const auto logits = decoder.feed(tokens), want = first.feed(std::span(tokens).first(4));
  EXPECT_EQ(decoder.past().size(), 4);
  EXPECT_EQ(decoder.counts().total(), 4);
  EXPECT_LE(distance(logits, want), kClose);
  asked = false;
  decoder.feed(std::span(tokens).subspan(4));
  EXPECT_EQ(decoder.past().size(), 9);
  EXPECT_LE(distance({decoder.logits().data<float>(), 33}, first.feed(std::span(tokens).subspan(4))), kClose);
}

// Of the registry, so that a mixer that is added is foretold too.
TEST(StatefulDecoder, KeepsRowsOfEachPositionWhereATimeMixerHasAttention) {
  const auto tokens = some_tokens(8 * GrowingRows::kBlock);  // a page of tokens
  for (const auto name : known_time_mixes()) {
    const Model model(small_config_with(name, "x060"));
    StatefulDecoder decoder(model.layers, {});
    decoder.feed(tokens);
    const size_t grown = decoder.past().growing_bytes();
    EXPECT_EQ(grown > 0, has_attention(name)) << name;
    EXPECT_EQ(grown, tokens.size() * bytes_a_position(model.layers.config(), {})) << name;
  }
}

// The last position's logits are wanted. The channel mix of the highest GOLD block runs for that alone, its attention
// for that and the one before, the channel mix below for one more, and so on: the attention of the lowest of G for 2 G.
TEST(StatefulDecoder, OfAPromptGoldLayersRunForFewerPositionsTheHigherTheyAre) {
  ModelConfig config = small_config("x060c2", "x060", "gold");
  config.n_layer = 6;  // 3 of them GOLD
  const Model model(config);
  std::map<std::string, std::vector<int64_t>> rows;
  const auto observe = [&](const std::string& layer, const Flow& flow) { rows[layer].push_back(flow.x_BTC.size(1)); };
  const auto tokens = some_tokens(70);
  const auto expect = [&](size_t prompt, std::vector<int64_t> lower, std::vector<int64_t> upper) {
    rows.clear();
    StatefulDecoder decoder(model.layers, {.chunk = 40, .observer = observe});
    decoder.feed(std::span(tokens).first(prompt));
    for (const char* layer : {"blocks.0", "blocks.1", "blocks.2"}) EXPECT_EQ(rows[layer], lower) << layer;
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(rows[cat("blocks.", 3 + i)], std::vector{upper[i]}) << i << " of " << prompt;
  };
  // What leaves a block: a row fewer than its attention ran for.
  expect(70, {40, 30}, {5, 3, 1});
  expect(7, {7}, {5, 3, 1});
  expect(6, {6}, {6, 6, 6});  // all that there is
}

// Which are shared: of one token, each GOLD layer asks for those of the same two positions.
TEST(StatefulDecoder, OfATokenTheExpandedKeysAreMadeOnce) {
  ModelConfig config = small_config("x060c2", "x060", "gold");
  config.n_layer = 6;  // 3 of them GOLD
  const Model model(config);
  const auto tokens = some_tokens(300);
  StatefulDecoder decoder(model.layers, {});
  decoder.feed(std::span(tokens).first(290));
  for (size_t t = 290; t < tokens.size(); ++t) {
    const Trace trace;
    decoder.feed({&tokens[t], 1});
    int64_t made = 0;
    for (const Trace::Total& total : trace.totals())
      if (total.name == "linear_concat") made += total.calls;
    ASSERT_EQ(made, 1) << t;
  }
}

#if !defined(GF_SANITIZED)  // whose heap is another
// Whatever tensors say of themselves: of each position 128 / 4 numbers of two bytes, and a token of two. Each time of a
// new model, so that what a model itself keeps of positions, such as the angles of rotations, counts too. On one
// thread: others take stacks and heaps of their own whenever products first need them.
TEST(StatefulDecoder, MemoryGrowsByCompressedKeyAndTokenAlone) {
  const Threads one(1);
  ModelConfig plain = small_config("x060c2", "x060", "gold");
  plain.n_layer = 2, plain.n_embd = 128, plain.dim_att = plain.dim_ffn = 0, plain.kv_cache_compression_ratio = 4;
  ModelConfig rope = plain, brope = plain;
  rope.rope.emplace(), brope.brope.emplace();
  const Past::Options options{.expanded = false, .cache = DType::bf16};
  const auto tokens = some_tokens(10'000);
  const auto positions = static_cast<double>(tokens.size());
  struct Growth {  // for each position from 10,000 to 20,000
    double all, pages;
  };
  const auto growth = [&](const ModelConfig& config) {
    const Model model(config);
    StatefulDecoder decoder(model.layers, {.past = options});
    decoder.feed(tokens);
    const size_t first = allocated_bytes(), first_pages = decoder.past().growing_bytes();
    decoder.feed(tokens);
    return Growth{static_cast<double>(allocated_bytes() - first) / positions,
                  static_cast<double>(decoder.past().growing_bytes() - first_pages) / positions};
  };
  growth(plain);  // products of shapes that were not there yet take memory too
  const double want = 2 * 128 / 4 + 2;
  EXPECT_EQ(static_cast<size_t>(want), bytes_a_position(plain, options));
  // The rest of a page more or less, 16,384 bytes of compressed keys and 4096 of tokens: 2.05 for each position.
  const double page = (GrowingRows::kBlock * 2.0 * 128 / 4 + 4096) / positions;
  for (const ModelConfig& config : {plain, rope, brope}) {
    const char* const name = config.rope ? "rope" : config.brope ? "brope" : "no rotation";
    const Growth got = growth(config);
    EXPECT_NEAR(got.pages, want, page) << name;
    // Beside the pages come 0.8 bytes of bookkeeping, some 170 for each of 44 pages. Anything else that grew with each
    // position would take a byte at least.
    EXPECT_GE(got.all, got.pages) << name;
    EXPECT_LT(got.all, got.pages + 1.2) << name;
  }
}
#endif

TEST(StatefulDecoder, KeepsTokensOfALargeVocabularyWhole) {
  ModelConfig config = small_config("x060c2", "x060", "gold");
  config.vocab_size = 65536 + 40;
  const Model model(config);
  const std::vector<int32_t> tokens{65570, 3, 65536, 34, 65569};
  StatefulDecoder decoder(model.layers, {.past = {.expanded = false}});
  EXPECT_LT(distance(decoder.feed(tokens), row(model.logits(tokens), 4)), kClose);
}

TEST(StatefulDecoder, RefusesATokenThatTheModelDoesNotKnow) {
  const Model model(small_config("x060"));
  for (const int32_t bad : {33, -1})
    expect_refused({cat("token ", bad), "33"}, [&] {
      StatefulDecoder(model.layers, {}).feed(std::vector<int32_t>{1, bad});
    });
}

}  // namespace
}  // namespace gf
