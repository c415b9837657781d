// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/expect_error.h"

namespace gf {
namespace {

ModelConfig goldfinch() {
  ModelConfig c;
  c.tmix = "x060c2", c.tmix2 = "gold", c.vocab_size = 257, c.n_layer = 12, c.n_embd = 768;
  return c;
}

// Changes a good config, resolves and checks it.
template <class Change>
void refused(Change&& change, const std::vector<std::string>& pieces) {
  ModelConfig c = goldfinch();
  change(c);
  expect_refused(pieces, [&] {
    c.resolve();
    c.check();
  });
}

template <class Change>
ModelConfig accepted(Change&& change) {
  ModelConfig c = goldfinch();
  change(c);
  c.resolve();
  c.check();
  return c;
}

TEST(ModelConfig, ZeroLeavesWidthsToTheProgram) {
  const ModelConfig c = accepted([](ModelConfig&) {});
  EXPECT_EQ(c.dim_att, 768);
  EXPECT_EQ(c.dim_ffn, 2688);
  EXPECT_EQ(c.num_heads(), 12);
  EXPECT_EQ(c.compressed_width(), 48);
  EXPECT_EQ(accepted([](auto& m) { m.n_embd = 2048; }).dim_ffn, 7168);
  EXPECT_EQ(accepted([](auto& m) { m.n_embd = m.head_size = 32; }).dim_ffn, 96);
  EXPECT_EQ(accepted([](auto& m) { m.dim_ffn = 64; }).dim_ffn, 64);
}

TEST(ModelConfig, ChannelWidthOfLlamaIsItsOwn) {
  EXPECT_EQ(accepted([](auto& m) { m.n_embd = 2048; }).channel_width("llama"), 5440);
  EXPECT_EQ(accepted([](ModelConfig&) {}).channel_width("llama"), 2048);
  EXPECT_EQ(accepted([](ModelConfig&) {}).channel_width("x060"), 2688);
}

TEST(ModelConfig, UpperLayersBeginWherePublished) {
  const auto first = [](int64_t layers, double ratio) {
    return accepted([&](auto& m) { m.n_layer = layers, m.inv_other_layer_ratio = ratio; }).first_upper();
  };
  EXPECT_EQ(first(12, 3), 8);
  EXPECT_EQ(first(24, 3), 16);
  EXPECT_EQ(first(12, 2), 6);
  EXPECT_EQ(first(12, 6), 10);
  EXPECT_EQ(first(6, 6), 5);
  EXPECT_EQ(first(7, 3), 4);
  EXPECT_EQ(first(5, 1.25), 1);
}

TEST(ModelConfig, LayersKnowTheirMixers) {
  const ModelConfig c = accepted([](auto& m) { m.cmix2 = "x052"; });
  EXPECT_EQ(c.time_mix(7), "x060c2");
  EXPECT_EQ(c.time_mix(8), "gold");
  EXPECT_EQ(c.channel_mix(7), "x060");
  EXPECT_EQ(c.channel_mix(8), "x052");
  const ModelConfig lower_only = accepted([](auto& m) { m.tmix2 = ""; });
  EXPECT_EQ(lower_only.first_upper(), 12);
  EXPECT_EQ(lower_only.time_mix(11), "x060c2");
}

TEST(ModelConfig, EveryPublishedMixerIsKnown) {
  for (const auto mix : known_time_mixes()) {
    if (mix == "gold") continue;
    accepted([&](auto& m) { m.tmix = mix, m.tmix2 = ""; });
    accepted([&](auto& m) { m.tmix2 = mix; });
  }
  for (const auto mix : known_channel_mixes()) accepted([&](auto& m) { m.cmix = m.cmix2 = mix; });
  EXPECT_EQ(known_time_mixes().size(), 7u);
  EXPECT_EQ(known_channel_mixes().size(), 3u);
}

TEST(ModelConfig, SizesThatCannotBe) {
  refused([](auto& m) { m.n_layer = 0; }, {"model.n_layer is 0", "from 1"});
  refused([](auto& m) { m.n_layer = -3; }, {"model.n_layer is -3"});
  refused([](auto& m) { m.n_layer = int64_t{1} << 40; }, {"model.n_layer is 1099511627776"});
  refused([](auto& m) { m.n_layer = 4097; }, {"model.n_layer is 4097", "to 4096"});
  refused([](auto& m) { m.n_embd = 0; }, {"model.n_embd is 0"});
  refused([](auto& m) { m.n_embd = 100; }, {"model.n_embd is 100", "multiple of 32", "--model.n_embd 96"});
  refused([](auto& m) { m.n_embd = std::numeric_limits<int64_t>::max(); }, {"model.n_embd is 9223372036854775807"});
  refused([](auto& m) { m.dim_att = -64; }, {"model.dim_att is -64"});
  refused([](auto& m) { m.dim_ffn = 33; }, {"model.dim_ffn is 33", "--model.dim_ffn 32"});
  refused([](auto& m) { m.ctx_len = 0; }, {"model.ctx_len is 0"});
  refused([](auto& m) { m.vocab_size = 0; }, {"model.vocab_size is not set", "--model.vocab_size 257", "65536"});
  refused([](auto& m) { m.vocab_size = int64_t{1} << 31; }, {"model.vocab_size is 2147483648"});
  refused([](auto& m) { m.head_size = 0; }, {"model.head_size is 0"});
  refused([](auto& m) { m.head_size = 100; }, {"model.head_size 100", "model.dim_att 768"});
  const auto wide = [](auto& m) { m.n_embd = m.dim_att = m.head_size = 2048; };
  refused(wide, {"model.head_size is 2048", "at most 1024", "--model.head_size 64"});
  refused([&](auto& m) { wide(m), m.tmix = "llama", m.tmix2 = "x060"; }, {"heads of x060 have at most 1024"});
  accepted([&](auto& m) { wide(m), m.tmix = "llama"; });
  accepted([&](auto& m) { wide(m), m.head_size = 1024; });
  refused([](auto& m) { m.head_size_divisor = 0; }, {"model.head_size_divisor is 0"});
  refused([](auto& m) { m.dropout = 1; }, {"model.dropout is 1"});
  refused([](auto& m) { m.dropout = -0.1; }, {"model.dropout is -0.1"});
  refused([](auto& m) { m.dropout = std::nan(""); }, {"model.dropout is nan"});
}

TEST(ModelConfig, LayoutsThatCannotBe) {
  refused([](auto& m) { m.tmix = "x070"; }, {"model.tmix is \"x070\"", "x060c2"});
  refused([](auto& m) { m.tmix2 = "golf"; }, {"model.tmix2 is \"golf\"", "gold"});
  refused([](auto& m) { m.cmix = ""; }, {"model.cmix is \"\"", "x052"});
  refused([](auto& m) { m.cmix2 = "gold"; }, {"model.cmix2 is \"gold\""});
  refused([](auto& m) { m.tmix = "gold"; }, {"model.tmix is \"gold\"", "key cache"});
  refused([](auto& m) { m.tmix2 = "", m.inv_other_layer_ratio = -7; }, {"model.inv_other_layer_ratio", "-7"});
  refused([](auto& m) { m.tmix2 = "", m.kv_cache_compression_ratio = -3; }, {"model.kv_cache_compression_ratio", "-3"});
  refused([](auto& m) { m.tmix2 = "", m.cmix2 = "foo"; }, {"model.cmix2", "foo"});
  refused([](auto& m) { m.inv_other_layer_ratio = 1; }, {"ratio 1 leaves no lower layer", "12"});
  refused([](auto& m) { m.n_layer = 1; }, {"ratio 3 leaves no lower layer in a model of 1"});
  for (const double ratio : {0.0, -3.0, std::nan("")}) {
    refused([&](auto& m) { m.inv_other_layer_ratio = ratio; }, {"leaves no lower layer"});
  }
  refused([](auto& m) { m.inv_other_layer_ratio = 1e300; }, {"1e+300 leaves no upper layer"});
  refused([](auto& m) { m.inv_other_layer_ratio = std::numeric_limits<double>::infinity(); }, {"inf leaves no"});
}

TEST(ModelConfig, GoldThatCannotBe) {
  refused([](auto& m) { m.dim_att = 512; }, {"model.dim_att is 512", "model.n_embd 768", "--model.dim_att 768"});
  refused([](auto& m) { m.kv_cache_compression_ratio = 1000; }, {"compression_ratio is 1000", "768"});
  refused([](auto& m) { m.kv_cache_compression_ratio = 0; }, {"compression_ratio is 0"});
  EXPECT_EQ(accepted([](auto& m) { m.kv_cache_compression_ratio = 1; }).compressed_width(), 768);
  accepted([](auto& m) { m.tmix2 = "gptalpha", m.dim_att = 512; });
}

TEST(ModelConfig, PositionsThatCannotBe) {
  accepted([](auto& m) { m.rope.emplace(); });
  accepted([](auto& m) { m.brope.emplace(); });
  accepted([](auto& m) { m.alibi.emplace(); });
  refused([](auto& m) { m.rope.emplace(), m.alibi.emplace(); }, {"model.rope", "model.alibi", "--model.alibi none"});
  refused([](auto& m) { m.tmix2 = "", m.rope.emplace(); }, {"model.rope", "no layer has attention", "x060c2"});
  refused([](auto& m) { m.rope.emplace().base = 0; }, {"model.rope.base is 0"});
  refused([](auto& m) { m.rope.emplace().rescale = -1; }, {"model.rope.rescale is -1"});
  refused([](auto& m) { m.brope.emplace().rescale = 0; }, {"model.brope.rescale is 0"});
  refused([](auto& m) { m.n_embd = 96, m.head_size = 3, m.rope.emplace(); }, {"even model.head_size, not 3"});
}

TEST(ModelConfig, SwitchesThatNothingReads) {
  refused([](auto& m) { m.tmix = "x060", m.use_v2 = false; }, {"model.use_v2 is 0", "x060c2", "\"x060\""});
  refused([](auto& m) { m.tmix = "llama", m.use_one_minus_w = false; }, {"model.use_one_minus_w is 0"});
  accepted([](auto& m) { m.use_v2 = m.use_one_minus_w = false; });
  refused([](auto& m) { m.head_size_divisor = 4; }, {"model.head_size_divisor is 4", "x060", "x052"});
  accepted([](auto& m) { m.tmix = "x060", m.head_size_divisor = 4; });
  refused([](auto& m) { m.tmix2 = "", m.cmix = "llama", m.dim_ffn = 64; }, {"model.dim_ffn is 64", "2048"});
}

}  // namespace
}  // namespace gf
