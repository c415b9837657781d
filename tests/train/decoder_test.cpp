// SPDX-License-Identifier: Apache-2.0
#include "train/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/process_memory.h"
#include "base/random.h"
#include "support/expect_error.h"
#include "support/small_model.h"

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

struct Variant {
  const char* name;
  const char *tmix, *tmix2;
  void (*change)(ModelConfig&) = [](ModelConfig&) {};
};

constexpr Variant kVariants[] = {
    {"finch", "x060", ""},
    {"finch_b", "x060b", ""},
    {"eagle", "x052", ""},
    {"finch_c2", "x060c2", ""},
    {"finch_c2_no_v2", "x060c2", "", [](ModelConfig& c) { c.use_v2 = false; }},
    {"finch_c2_no_one_minus_w", "x060c2", "", [](ModelConfig& c) { c.use_one_minus_w = false; }},
    {"gptalpha", "gptalpha", "", [](ModelConfig& c) { c.rope.emplace(); }},
    {"gptalpha_alibi", "gptalpha", "", [](ModelConfig& c) { c.alibi.emplace(); }},
    {"gptalpha_brope", "gptalpha", "", [](ModelConfig& c) { c.brope.emplace(); }},
    {"llama", "llama", "", [](ModelConfig& c) { c.rope.emplace(), c.cmix = "llama"; }},
    {"goldfinch", "x060c2", "gold"},
    {"goldfinch_rope", "x060c2", "gold", [](ModelConfig& c) { c.rope.emplace(); }},
    {"goldfinch_rope_slower", "x060c2", "gold", [](ModelConfig& c) { c.rope = {.rescale = 4, .rebase = 3}; }},
    {"goldfinch_brope", "x060c2", "gold", [](ModelConfig& c) { c.brope = {.rescale = 2}; }},
    {"goldfinch_no_one_minus_w", "x060c2", "gold", [](ModelConfig& c) { c.use_one_minus_w = false; }},
    {"goldfinch_two_gold", "x060c2", "gold", [](ModelConfig& c) { c.n_layer = 6; }},
    {"goldfinch_llama", "x060c2", "gold", [](ModelConfig& c) { c.cmix2 = "llama"; }},
    {"goldfinch_parallel", "x060c2", "gold", [](ModelConfig& c) { c.parallel = true; }},
    {"goldfinch_parallel_llama", "x060c2", "gold", [](ModelConfig& c) { c.parallel = true, c.cmix2 = "llama"; }},
    {"finch_gold", "x060", "gold"},
    {"finch_c2_gptalpha", "x060c2", "gptalpha"},
};

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

class DecoderOf : public testing::TestWithParam<Variant> {
 public:
  static ModelConfig config() {
    ModelConfig c = small_config(GetParam().tmix, "x060", GetParam().tmix2);
    GetParam().change(c);
    return c;
  }
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

INSTANTIATE_TEST_SUITE_P(Every, DecoderOf, testing::ValuesIn(kVariants),
                         [](const auto& variant) { return std::string(variant.param.name); });

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

#if !defined(GF_SANITIZED)  // whose heap is another
// Whatever tensors say of themselves: of each position 128 / 4 numbers of two bytes, and a token of two.
TEST(StatefulDecoder, MemoryGrowsByCompressedKeyAndTokenAlone) {
  ModelConfig config = small_config("x060c2", "x060", "gold");
  config.n_layer = 2, config.n_embd = 128, config.dim_att = config.dim_ffn = 0, config.kv_cache_compression_ratio = 4;
  const Model model(config);
  const auto tokens = some_tokens(10'000);
  const auto growth = [&] {
    StatefulDecoder decoder(model.layers, {.past = {.expanded = false, .cache = DType::bf16}});
    decoder.feed(tokens);
    const size_t first = allocated_bytes();
    decoder.feed(tokens);
    return static_cast<double>(allocated_bytes() - first) / 10'000;
  };
  growth();  // products of shapes that were not there yet take memory too
  const double want = 2 * 128 / 4 + 2;
  EXPECT_EQ(static_cast<size_t>(want), bytes_a_position(config, {.expanded = false, .cache = DType::bf16}));
  // To 3.2 bytes come the lists of blocks. Anything else that grew, of 2 bytes a position, would be a list more too.
  EXPECT_NEAR(growth(), want, 4);
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
