// SPDX-License-Identifier: Apache-2.0
#include "model/layer_stack.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "support/small_model.h"

namespace gf {
namespace {

struct Size {
  const char* name;
  int64_t n_layer, n_embd;
};
constexpr Size kSizes[] = {{"L24 D2048", 24, 2048}, {"L12 D768", 12, 768}, {"L6 D768", 6, 768}};

struct Published {
  const char* name;
  const char *tmix, *tmix2, *cmix;
  double ratio, compression;
  int64_t counts[3];  // of the sizes above
};
// Worked out from the published code for a vocabulary of 65536. Finch's agree with its paper, and three of L12 with
// the sizes of the published files.
constexpr Published kPublished[] = {
    {"Llama", "llama", "", "llama", 3, 16, {1473454080, 185637888, 143152128}},
    {"Finch", "x060", "", "x060", 3, 16, {1599873024, 196955136, 148810752}},
    {"Finch-C2", "x060c2", "", "x060", 3, 16, {1505501184, 191056896, 145861632}},
    {"GPTAlpha", "gptalpha", "", "x060", 3, 16, {1486725120, 187536384, 144101376}},
    {"GoldFinch 1/3, 16:1", "x060c2", "gold", "x060", 3, 16, {1445257216, 186617856, 143973888}},
    {"GoldFinch 1/3, 1:1", "x060c2", "gold", "x060", 3, 1, {1453121536, 187723776, 145079808}},
    {"GoldFinch 1/2", "x060c2", "gold", "x060", 2, 16, {1412775936, 184066560, 142698240}},
    {"GoldFinch 1/6", "x060c2", "gold", "x060", 6, 16, {1477738496, 189169152, 145249536}},
    {"Finch-C2 + 1/3 GPTAlpha", "x060c2", "gptalpha", "x060", 3, 16, {1499242496, 189883392, 145274880}},
};

TEST(LayerStack, HasThePublishedNumberOfParameters) {
  for (const Published& p : kPublished) {
    for (size_t s = 0; s < std::size(kSizes); ++s) {
      ModelConfig c;
      c.tmix = p.tmix, c.tmix2 = p.tmix2, c.cmix = c.cmix2 = p.cmix, c.vocab_size = 65536;
      c.inv_other_layer_ratio = p.ratio, c.kv_cache_compression_ratio = p.compression;
      c.n_layer = kSizes[s].n_layer, c.n_embd = kSizes[s].n_embd;
      c.resolve();
      c.check();
      const LayerStack layers(c);
      EXPECT_EQ(layers.parameters().count(), p.counts[s]) << p.name << " " << kSizes[s].name;
      EXPECT_FALSE(layers.parameters().allocated()) << "to count takes no memory";
    }
  }
}

// A stage's parameters are those of its layers, and the stages have all of them.
TEST(LayerStack, StagesShareOutTheParameters) {
  const ModelConfig c = small_config("x060c2", "x060", "gold");
  const auto layers = layout_of(c);
  const LayerStack whole(c);
  for (size_t cut = 1; cut < layers.size(); ++cut) {
    const LayerStack lower(c, stage_layers(layers, 0, cut)), upper(c, stage_layers(layers, cut, layers.size()));
    int64_t shared = 0;
    for (const auto& p : upper.parameters().all())
      if (lower.parameters().find(p->name())) {
        EXPECT_EQ(p->name(), "w_kv_cache_b.weight");
        shared += p->shape().numel();
      }
    EXPECT_EQ(shared != 0, cut == 5 || cut == 6) << "the keys are expanded on both sides of cut " << cut;
    EXPECT_EQ(lower.parameters().count() + upper.parameters().count() - shared, whole.parameters().count());
    EXPECT_EQ(static_cast<bool>(lower.head()), false);
    EXPECT_EQ(static_cast<bool>(upper.head()), true);
  }
}

using Shapes = std::map<std::string, std::vector<int64_t>>;

class PublishedNames : public testing::TestWithParam<std::string> {};

// The golden cases were made by another program with the published names.
TEST_P(PublishedNames, AndShapes) {
  std::ifstream in(std::string(GF_SOURCE_DIR) + "/tests/golden/" + GetParam() + ".json");
  const auto json = nlohmann::json::parse(in);
  const auto& m = json.at("model");
  ModelConfig c;
  c.tmix = m.at("tmix"), c.tmix2 = m.at("tmix2"), c.cmix = m.at("cmix"), c.cmix2 = m.at("cmix2");
  c.n_layer = m.at("n_layer"), c.n_embd = m.at("n_embd"), c.head_size = m.at("head_size"),
  c.vocab_size = m.at("vocab_size");
  c.inv_other_layer_ratio = m.at("inv_other_layer_ratio");
  c.resolve();
  c.check();
  Shapes want, got;
  for (const auto& p : json.at("params")) want[p.at("name")] = p.at("shape").get<std::vector<int64_t>>();
  const LayerStack layers(c);
  for (const auto& p : layers.parameters().all()) got[p->name()] = {p->shape().dims().begin(), p->shape().dims().end()};
  EXPECT_EQ(got, want);
}

std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(std::string(GF_SOURCE_DIR) + "/tests/golden"))
    names.push_back(file.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Golden, PublishedNames, testing::ValuesIn(golden_cases()),
                         [](const auto& test) { return test.param; });

TEST(LayerStack, TheObserverSeesEachLayer) {
  LayerStack layers(small_config("x060c2", "x060", "gold"));
  layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  fill_hashed(layers.parameters());
  const Batch batch = hashed_batch(1, 5, 33);
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  std::vector<std::string> seen;
  layers.forward(tape, Pass{batch}, {}, false, [&](const std::string& name, const Flow& flow) {
    seen.push_back(name);
    EXPECT_EQ(flow.x_BTC.shape(), (Shape{1, 5, 32}));
    if (name == "key_compress") {
      EXPECT_EQ(flow.compressed_BTZ.shape(), (Shape{1, 5, 2}));
    }
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"embed", "blocks.0", "blocks.1", "key_compress", "key_expand", "blocks.2",
                                            "blocks.3"}));
}

}  // namespace
}  // namespace gf
