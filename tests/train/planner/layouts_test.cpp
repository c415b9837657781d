// SPDX-License-Identifier: Apache-2.0
#include "train/planner/layouts.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "parallel/partition.h"
#include "support/expect_error.h"
#include "train/planner/layer_times.h"
#include "train/planner/plan_text.h"

namespace gf {
namespace {

Config config_of(int64_t n_layer, int64_t microbatches) {
  Config c;
  c.model.n_layer = n_layer, c.model.n_embd = 32, c.model.head_size = 16, c.model.ctx_len = 16, c.model.vocab_size = 65;
  c.train.micro_bsz = 1, c.train.accumulate_grad_batches = microbatches;
  resolve(c);
  return c;
}

Hardware cluster(double memory = 1e12) {
  Hardware h;
  h.nodes = 4, h.ranks_per_node = 4;
  h.rank = {1e12, 1, memory, 1e11};
  h.within_node.emplace(Link{1e10, 1e-6, true});
  h.between_nodes.emplace(Link{1e9, 1e-5, true});
  return h;
}

std::vector<PlannedLayout> planned(const Config& c, int64_t ranks, const Hardware& h = cluster(),
                                   const GivenKeys& given = {}) {
  return plan_layouts(c, given, ranks, h, reckoned_times(c, h.rank));
}

std::string name_of(const PlannedLayout& l) {
  const ParallelConfig& p = l.config.parallel;
  return cat(p.pipeline, "x", l.share.data_ranks, " ", l.share.data_ranks > 1 ? l.share.sharding.zero : 0, " ",
             p.schedule, " ", p.pieces);
}

std::set<std::string> names(const std::vector<PlannedLayout>& all) {
  std::set<std::string> set;
  for (const PlannedLayout& l : all) set.insert(name_of(l));
  EXPECT_EQ(set.size(), all.size()) << "one twice";
  return set;
}

TEST(Layouts, AreAllThatBatchAndLayersAllow) {
  // Four ranks, three layers, six microbatches: no pipeline of four, no four data ranks.
  EXPECT_EQ(
      names(planned(config_of(3, 6), 4)),
      (std::set<std::string>{"2x2 0 gpipe 1", "2x2 1 gpipe 1", "2x2 2 gpipe 1", "2x2 3 gpipe 1", "2x2 0 one_f_one_b 1",
                             "2x2 1 one_f_one_b 1", "2x2 2 one_f_one_b 1", "2x2 3 one_f_one_b 1", "2x2 0 zero_bubble 1",
                             "2x2 1 zero_bubble 1", "2x2 2 zero_bubble 1", "2x2 3 zero_bubble 1"}));
  const auto eight = names(planned(config_of(8, 6), 2));
  for (const char* all : {"2x1 0 interleaved 2", "2x1 0 interleaved 3", "2x1 0 interleaved 4"})
    EXPECT_TRUE(eight.contains(all)) << all;
  EXPECT_TRUE(eight.contains("2x1 0 gpipe 2"));
  for (const int64_t layers : {6, 12})  // also numbers of pieces that are no power of two
    for (int64_t pieces = 2; pieces <= layers / 2; ++pieces)
      EXPECT_TRUE(names(planned(config_of(layers, 6), 2)).contains(cat("2x1 0 interleaved ", pieces)))
          << layers << " layers, " << pieces << " pieces";
  EXPECT_FALSE(eight.contains("2x1 0 interleaved 8")) << "more stages than layers";
  EXPECT_FALSE(eight.contains("2x1 0 interleaved 1")) << "that is 1F1B";
  EXPECT_EQ(names(planned(config_of(8, 6), 1)), std::set<std::string>{"1x1 0 one_f_one_b 1"});
}

// Of eight ranks, where these keys are given: with what `say` sets them to, else their defaults.
std::vector<PlannedLayout> said(const GivenKeys& given, const std::function<void(Config&)>& say = {}) {
  Config c = config_of(8, 8);
  if (say) say(c);
  return planned(c, 8, cluster(), given);
}

TEST(Layouts, WhatIsSaidStays) {
  const auto with = [](const std::string& key, const std::function<void(Config&)>& say) {
    auto all = said({key}, say);
    EXPECT_GT(all.size(), 1u) << key;
    return all;
  };
  for (const auto& l : with("parallel.pipeline", [](Config& c) { c.parallel.pipeline = 4; }))
    EXPECT_EQ(l.config.parallel.pipeline, 4);
  for (const auto& l : with("parallel.data", [](Config& c) { c.parallel.data.emplace(4); }))
    EXPECT_EQ(l.share.data_ranks, 4);
  for (const auto& l : with("parallel.schedule", [](Config& c) { c.parallel.schedule = "zero_bubble"; }))
    EXPECT_EQ(l.config.parallel.schedule, "zero_bubble");
  for (const int64_t pieces : {2, 3})
    for (const auto& l : with("parallel.pieces", [&](Config& c) { c.parallel.pieces = pieces; }))
      EXPECT_EQ(l.config.parallel.pieces, pieces);
  for (const auto& l : with("parallel.zero", [](Config& c) { c.parallel.zero.emplace(2); }))
    EXPECT_TRUE(l.share.sharding.zero == 2 || l.share.data_ranks == 1);
  for (const auto& l : with("parallel.partition", [](Config& c) { c.parallel.partition.emplace("0,1-7"); }))
    EXPECT_EQ(text_of(l.config.model, l.share.partition), "0,1-7");
}

// What stands in a file or on the command line is said, though it is what nobody would have to say.
TEST(Layouts, DefaultsThatAreSaidStay) {
  const auto of = [](const GivenKeys& given, const auto&... say) { return names(said(given, say...)); };
  EXPECT_EQ(of({"parallel.pipeline"}), (std::set<std::string>{"1x8 0 one_f_one_b 1", "1x8 1 one_f_one_b 1",
                                                              "1x8 2 one_f_one_b 1", "1x8 3 one_f_one_b 1"}));
  EXPECT_EQ(of({"parallel.pipeline", "parallel.schedule", "parallel.pieces", "parallel.zero"},
               [](Config& c) { c.parallel.zero.emplace(1); }),
            std::set<std::string>{"1x8 1 one_f_one_b 1"});
  for (const std::string& name : of({"parallel.schedule"}))
    EXPECT_NE(name.find(" one_f_one_b 1"), std::string::npos) << name;
  EXPECT_EQ(of({"parallel.schedule"}).size(), 4u + 4 + 4 + 1) << "pipelines of 1, 2, 4 and 8 ranks";
  // One piece, of whatever schedule; that of interleaved, which is 1F1B, where it is said too.
  const auto one = of({"parallel.pieces"});
  EXPECT_TRUE(one.contains("8x1 0 gpipe 1") && one.contains("8x1 0 zero_bubble 1"));
  for (const std::string& name : one)
    EXPECT_TRUE(name.ends_with(" 1") && name.find("interleaved") == std::string::npos) << name;
  const auto both = of({"parallel.pieces", "parallel.schedule"}, [](Config& c) { c.parallel.schedule = "gpipe"; });
  EXPECT_EQ(both.size(), 4u + 4 + 4 + 1);
  for (const std::string& name : both) EXPECT_NE(name.find(" gpipe 1"), std::string::npos) << name;
  EXPECT_TRUE(of({"parallel.pieces", "parallel.schedule"}, [](Config& c) {
                c.parallel.schedule = "interleaved";
              }).contains("8x1 0 interleaved 1"));
}

// A published file's strategy is for other machines, and leaves zero open; not so who says as much.
TEST(Layouts, AStrategyLeavesZeroOpen) {
  const auto zeros = [](const GivenKeys& given) {
    std::set<int> all;
    for (const PlannedLayout& l : said(given, [](Config& c) {
           c.train.strategy.emplace("deepspeed_stage_2");
           resolve(c);
         }))
      if (l.share.data_ranks > 1) all.insert(l.share.sharding.zero);
    return all;
  };
  EXPECT_EQ(zeros({"train.strategy"}), (std::set<int>{0, 1, 2, 3}));
  EXPECT_EQ(zeros({"train.strategy", "parallel.zero"}), std::set<int>{2});
}

TEST(Layouts, TheFastestThatFitsComesFirst) {
  Config c = config_of(8, 16);
  c.model.n_embd = 2048, c.model.dim_att = c.model.dim_ffn = 0;
  resolve(c);
  planned(c, 16);  // a process takes more at first
  const auto all = planned(c, 16);
  double before = 1e300;
  for (const PlannedLayout& l : all) {
    EXPECT_TRUE(l.fits);
    EXPECT_LE(l.forecast.tokens_per_s, before);
    before = l.forecast.tokens_per_s;
  }
  // With room for the leanest only, that is the best, and the rest is told of by what it needs.
  size_t least = SIZE_MAX;
  for (PlannedLayout l : all) {
    l.forecast.fit(0);  // waits for its saves
    least = std::min(least, l.forecast.neediest().memory.total());
  }
  constexpr double kGrowth = 3e8;  // of this process, by planning; the address sanitizer keeps what was freed
  const double memory = static_cast<double>(least) + kGrowth;
  const auto tight = planned(c, 16, cluster(memory));
  ASSERT_TRUE(tight[0].fits);
  ASSERT_FALSE(tight.back().fits);
  for (size_t i = 0; i < tight.size(); ++i) {
    const auto total = static_cast<double>(tight[i].forecast.neediest().memory.total());
    EXPECT_EQ(tight[i].fits, total <= memory);
    if (i > 0 && !tight[i - 1].fits) {
      EXPECT_GE(total, static_cast<double>(tight[i - 1].forecast.neediest().memory.total()));
    }
  }
  const std::string table = table_of(tight, 2);
  EXPECT_NE(table.find("these do not fit into a rank's memory"), std::string::npos) << table;
  EXPECT_NE(table.find("that need more"), std::string::npos) << table;
}

TEST(Layouts, OptionsSayTheLayout) {
  Config c = config_of(8, 8);
  c.parallel.pipeline = 2, c.parallel.schedule = "interleaved", c.parallel.pieces = 2, c.parallel.zero.emplace(2);
  const Hardware h = cluster();
  StageNeeds needs(c);
  EXPECT_EQ(plan_layout(c, 8, h, fixed_times(c.model), needs).options(),
            "--parallel.pipeline 2 --parallel.schedule interleaved --parallel.pieces 2 --parallel.zero 2");
  LayerTimes steep = fixed_times(c.model);  // a head that takes longer than gf-dist-train would think
  steep.head = {100 * steep.lower.forward, 0, 0};
  const std::string options = plan_layout(c, 8, h, steep, needs).options();
  EXPECT_NE(options.find(" --parallel.partition 0-1,2-4,5-7,head"), std::string::npos) << options;
  EXPECT_EQ(plan_layout(config_of(8, 8), 1, h, steep, needs).options(), "--parallel.pipeline 1");
}

TEST(Layouts, NoneIsRefused) {
  expect_refused({"no layout of 7 ranks", "model.n_layer 3", "6 microbatches", "--ranks"},
                 [] { planned(config_of(3, 6), 7); });
}

}  // namespace
}  // namespace gf
