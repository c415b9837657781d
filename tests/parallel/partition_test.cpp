// SPDX-License-Identifier: Apache-2.0
#include "parallel/partition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>

#include "support/expect_error.h"
#include "support/small_model.h"

namespace gf {
namespace {

ModelConfig model(int64_t n_layer, const std::string& upper = "gold", int64_t vocab = 4096) {
  ModelConfig c;
  c.tmix = "x060c2", c.tmix2 = upper, c.n_layer = n_layer, c.n_embd = 256, c.head_size = 64, c.vocab_size = vocab;
  c.ctx_len = 512;
  c.resolve();
  c.check();
  return c;
}

double dearest(const ModelConfig& c, const Partition& p, const std::vector<double>& costs) {
  double most = 0;
  for (int s = 0; s < p.num_stages(); ++s)
    most = std::max(most, stage_cost(layout_of(c), costs, p.cuts[s], p.cuts[s + 1]));
  return most;
}

// Against every way there is, on models small enough to try them all.
TEST(Partition, NoOtherCutIsCheaper) {
  for (const int64_t n_layer : {3, 6, 9}) {
    const ModelConfig c = model(n_layer);
    const auto costs = layer_costs(c);
    for (int stages = 1; stages <= std::min<int64_t>(n_layer, 4); ++stages) {
      const Partition best = balanced_partition(c, costs, stages);
      ASSERT_EQ(best.num_stages(), stages);
      // All texts of ranges of blocks.
      std::vector<int64_t> ends(stages, 0);
      const std::function<void(int, int64_t, std::string)> all = [&](int stage, int64_t first,
                                                                     const std::string& text) {
        if (stage == stages) {
          if (first == n_layer) {
            EXPECT_GE(dearest(c, given_partition(c, text, stages), costs), dearest(c, best, costs) * (1 - 1e-12))
                << text;
          }
          return;
        }
        for (int64_t last = first; last < n_layer; ++last)
          all(stage + 1, last + 1, cat(text, stage > 0 ? "," : "", first, "-", last));
      };
      all(0, 0, "");
    }
  }
}

// In a tenth of a second, and not in the ten that it takes to add up each stage there could be by itself.
TEST(Partition, AsManyLayersAsThereMayBeTakeNoTime) {
  const ModelConfig c = model(4096, "");
  const std::vector<double> costs(layout_of(c).size(), 1);
  const std::clock_t begin = std::clock();
  EXPECT_EQ(balanced_partition(c, costs, 1).cuts, (std::vector<size_t>{0, 4098}));
  EXPECT_EQ(balanced_partition(c, costs, 2).cuts, (std::vector<size_t>{0, 2049, 4098}));
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 5);
}

TEST(Partition, ALargeHeadCountsAsMuchAsItCosts) {
  const ModelConfig small = model(8, "", 256), large = model(8, "", 65536);
  const auto blocks_above = [](const ModelConfig& c) {
    const std::string text = text_of(c, balanced_partition(c, layer_costs(c), 2));
    return text.substr(text.find(',') + 1);
  };
  EXPECT_EQ(blocks_above(small), "4-7");
  EXPECT_EQ(blocks_above(large), "head") << "it alone costs more than all blocks";
}

TEST(Partition, TextGoesThereAndBack) {
  const ModelConfig c = model(9);
  for (int stages = 1; stages <= 9; ++stages) {
    const Partition p = balanced_partition(c, layer_costs(c), stages);
    EXPECT_EQ(given_partition(c, text_of(c, p), stages), p) << text_of(c, p);
  }
  EXPECT_EQ(text_of(c, given_partition(c, "0,1-5,6-8", 3)), "0,1-5,6-8");
  EXPECT_EQ(text_of(c, given_partition(c, "0, 1-5 ,6-8 ", 3)), "0,1-5,6-8");
  // The key cache goes with the first GOLD block, the head with the last stage.
  const auto layers = layout_of(c);
  const Partition p = given_partition(c, "0-5,6-8", 2);
  EXPECT_EQ(layers[p.cuts[1]].kind, LayerSpec::Kind::key_compress);
  EXPECT_EQ(p.cuts[2], layers.size());
}

TEST(Partition, RefusesWhatLeavesBlocksOutOrTwice) {
  const ModelConfig c = model(6);
  const auto refused = [&](const std::string& text, const std::string& what) {
    expect_refused({"parallel.partition \"" + text + "\"", what, "such as 0-"}, [&] { given_partition(c, text, 2); });
  };
  refused("0-1,3-5", "block 2 should come next, and 3 does");
  refused("0-3,3-5", "block 4 should come next, and 3 does");
  refused("0-3,4", "block 5 and above belong to no stage");
  refused("0-3,4-6", "block 6 of 6");
  refused("0-1,2-3,4-5", "it has 3 stages, and 2 are to run");
  refused("0-5", "it has 1 stages");
  refused("a-b", "\"a-b\" is no range of blocks");
  refused("3-1,2-5", "\"3-1\" is no range");
  refused("", "block 0 and above");
  refused("1-2,3-5", "block 0 should come next");
}

TEST(Partition, MoreStagesThanBlocksAreRefused) {
  const ModelConfig c = model(6);
  expect_refused({"7 stages", "model.n_layer 6", "--parallel.pipeline 6 at most"},
                 [&] { balanced_partition(c, layer_costs(c), 7); });
}

// What is to be tried is not refused likewise.
TEST(Partition, FewerRanksOrFewerPiecesAreFewerStages) {
  const ModelConfig c = model(6);
  const auto refused = [&](int pipeline, int64_t pieces, const std::string& hint) {
    const int stages = pipeline * static_cast<int>(pieces);
    const std::vector<std::string> said = {cat("parallel.pipeline ", pipeline, " times parallel.pieces ", pieces,
                                               " is ", stages, " stages, and model.n_layer 6"),
                                           "[try: " + hint + "]"};
    expect_refused(said, [&] { balanced_partition(c, layer_costs(c), stages, pieces); });
    expect_refused(said, [&] { given_partition(c, "0-1,2-5", stages, pieces); });
  };
  refused(4, 2, "--parallel.pipeline 3 at most, or --parallel.pieces 1");
  refused(2, 4, "--parallel.pipeline 1 at most, or --parallel.pieces 3 at most");
  refused(7, 2, "--parallel.pipeline 3 at most");
  refused(1, 8, "--parallel.pieces 6 at most");
  refused(7, 7, "--parallel.pipeline 6 at most, with --parallel.pieces 1");
}

TEST(Partition, WhatDoesNotFitIsNotTaken) {
  const ModelConfig c = model(6, "");
  const auto costs = layer_costs(c);
  // The first stage may have one block only.
  const auto p = fitting_partition(c, costs, 3, [](size_t begin, size_t end, int stage) {
    return stage > 0 || end - begin <= 2 ? StageFit::yes : StageFit::nor_with_more;
  });
  ASSERT_TRUE(p);
  EXPECT_EQ(text_of(c, *p).substr(0, 2), "0,");
  EXPECT_FALSE(fitting_partition(c, costs, 3, [](size_t, size_t, int) { return StageFit::no; }));
  // The last stage may have any number of blocks but two and three.
  const auto holes = fitting_partition(c, costs, 2, [&](size_t begin, size_t end, int stage) {
    const size_t blocks = layout_of(c).size() - 1 - begin;
    return stage == 1 && end == layout_of(c).size() && (blocks == 2 || blocks == 3) ? StageFit::no : StageFit::yes;
  });
  ASSERT_TRUE(holes);
  EXPECT_EQ(text_of(c, *holes), "0-1,2-5");
}

// A stage that begins above the first GOLD block makes keys and values again.
TEST(Partition, KeysExpandedAgainCostAgain) {
  const ModelConfig c = model(9);
  const auto layers = layout_of(c);
  std::vector<double> costs(layers.size());
  size_t expand = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    costs[i] = layers[i].kind == LayerSpec::Kind::block ? 1 : 0;
    if (layers[i].kind == LayerSpec::Kind::key_expand) expand = i, costs[i] = 1;
  }
  EXPECT_EQ(stage_cost(layers, costs, 0, expand), 6);
  EXPECT_EQ(stage_cost(layers, costs, expand, layers.size()), 4);
  EXPECT_EQ(stage_cost(layers, costs, expand + 2, layers.size()), 3) << "two blocks, and the keys for them";
  EXPECT_EQ(stage_cost(layers, costs, layers.size() - 1, layers.size()), 0) << "the head reads none";
  // With four stages and a dear expansion, one of two GOLD stages has both costs: as few blocks above the first cut as
  // the other leaves it.
  costs[expand] = 4;
  const Partition four = balanced_partition(c, costs, 4);
  EXPECT_EQ(dearest(c, four, costs), 6) << text_of(c, four);
}

// Of attention's products over a sequence the causal half is needed: two forward and four backward, of T A operations
// each. A recurrence costs the same at any length.
TEST(Partition, AttentionCostsMoreTheLongerTheSequence) {
  for (const auto name : known_time_mixes()) {
    ModelConfig c = small_config_with(name, "x060");
    const size_t block = layout_of(c).size() - 2;  // the last one, below the head
    const double once = layer_costs(c)[block];
    c.ctx_len *= 2;
    const double more = has_attention(name) ? 6.0 * static_cast<double>(c.ctx_len / 2 * c.dim_att) : 0;
    EXPECT_DOUBLE_EQ(layer_costs(c)[block], once + more) << name;
  }
}

TEST(Partition, CutsCarryWhatIsReadAbove) {
  const ModelConfig c = model(9);
  const auto shapes = boundary_shapes(c, given_partition(c, "0-2,3-5,6,7-8", 4), 3, DType::bf16);
  EXPECT_EQ(shapes[0].fields, 0);
  EXPECT_EQ(shapes[1].fields, kX | kOrigin);
  EXPECT_EQ(shapes[2].fields, kX | kOrigin) << "the key cache is made above";
  EXPECT_EQ(shapes[3].fields, kX | kOrigin | kCompressed);
  EXPECT_EQ(shapes[4].fields, 0);
  Arena arena(kCpu);
  const Tensor compressed = tensors_of(shapes[3].empty(arena))[2];
  EXPECT_EQ(compressed.shape(), (Shape{3, 512, 16}));
  EXPECT_EQ(compressed.dtype(), DType::bf16);
}

}  // namespace
}  // namespace gf
