// SPDX-License-Identifier: Apache-2.0
#include "train/planner/fitting.h"

#include <gtest/gtest.h>

#include <sstream>

#include "parallel/partition.h"

namespace gf {
namespace {

Config config_of(int64_t pipeline, const std::string& schedule = "one_f_one_b", int64_t pieces = 1) {
  Config c;
  c.model.tmix = "x060c2", c.model.tmix2 = "gold", c.model.n_layer = 9, c.model.n_embd = 64, c.model.head_size = 16;
  c.model.ctx_len = 64, c.model.vocab_size = 4096;
  c.train.micro_bsz = 2;
  c.parallel.pipeline = pipeline, c.parallel.schedule = schedule, c.parallel.pieces = pieces;
  resolve(c);
  return c;
}

RankShare share_of(int64_t microbatches = 8) {
  RankShare share;
  share.microbatches = microbatches;
  return share;
}

size_t neediest(const Config& c, RankShare share, const Partition& partition) {
  share.partition = partition;
  size_t most = 0;
  for (share.stage = 0; share.stage < c.parallel.pipeline; ++share.stage) {
    MemoryForecast f = forecast_memory(c, share);
    f.fit(0);  // as it is when it waits for its saves
    most = std::max(most, f.more());
  }
  return most;
}

// Each forecast that is put together from known stages is the one made of the rank itself.
TEST(Fitting, KnownNeedsAreThoseOfTheRank) {
  for (const auto& [schedule, pieces] : {std::pair("one_f_one_b", 1), {"zero_bubble", 1}, {"interleaved", 2}}) {
    for (const int pipeline : {1, 2, 3, 4}) {
      for (const int zero : {0, 1, 2, 3}) {
        const Config c = config_of(pipeline, schedule, pieces);
        StageNeeds needs(c);
        RankShare share = share_of();
        share.data_ranks = 4, share.sharding = {zero, 100'000}, share.validation_windows = 3;
        share.partition = balanced_partition(c.model, layer_costs(c.model), pipeline * pieces);
        for (int round = 0; round < 2; ++round) {
          for (share.stage = 0; share.stage < pipeline; ++share.stage) {
            const MemoryForecast a = needs.forecast(c, share), b = forecast_memory(c, share);
            EXPECT_EQ(a.parameters, b.parameters);
            EXPECT_EQ(a.gradients, b.gradients);
            EXPECT_EQ(a.optimizer, b.optimizer);
            EXPECT_EQ(a.activations, b.activations);
            EXPECT_EQ(a.validation, b.validation);
            EXPECT_EQ(a.copy, b.copy);
          }
        }
      }
    }
  }
}

// The first rank keeps the most microbatches, and the large head weighs on the last.
TEST(Fitting, TheCheapestCutThatFitsIsTaken) {
  const Config c = config_of(3);
  const auto costs = layer_costs(c.model);
  const auto layers = layout_of(c.model);
  const auto dearest = [&](const Partition& p) {
    double most = 0;
    for (int s = 0; s < 3; ++s) most = std::max(most, stage_cost(layers, costs, p.cuts[s], p.cuts[s + 1]));
    return most;
  };
  StageNeeds needs(c);
  const Partition free = balanced_partition(c.model, costs, 3);
  const size_t most = neediest(c, share_of(), free);
  EXPECT_EQ(partition_within(c, share_of(), costs, most, needs), free);
  // All cuts, by what they need and cost.
  size_t limit = most - 1;
  double best = 1e300;
  int fitting = 0;
  for (int a = 0; a < 8; ++a) {
    for (int b = a + 1; b < 9; ++b) {
      const std::string last = b < 8 ? cat(b + 1, "-8") : "head";
      const Partition p = given_partition(c.model, cat("0-", a, ",", a + 1, "-", b, ",", last), 3);
      if (neediest(c, share_of(), p) > limit) continue;
      ++fitting;
      best = std::min(best, dearest(p));
    }
  }
  ASSERT_GT(fitting, 0);
  const Partition within = partition_within(c, share_of(), costs, limit, needs);
  EXPECT_NE(within, free);
  EXPECT_LE(neediest(c, share_of(), within), limit);
  EXPECT_EQ(dearest(within), best);
  // With too little for any, the cheapest is told of.
  EXPECT_EQ(partition_within(c, share_of(), costs, 1000, needs), free);
}

// While the largest bucket, and with it all that is needed, may shrink, as where a large head no longer shares its own.
TEST(Fitting, MoreLayersLessenNothingButBuckets) {
  int shrank = 0;
  for (const char* mixers : {"x060c2 gold", "x060 gptalpha", "llama"}) {
    for (const bool recompute : {false, true}) {
      for (const char* groups : {"[]", "[{match: 'blocks.[0-4].*', freeze: 1}]"}) {
        Config c = config_of(1);
        std::istringstream(mixers) >> c.model.tmix >> c.model.tmix2;
        if (c.model.tmix == "llama") c.model.tmix2.clear();
        c.train.grad_cp = recompute;
        c.train.groups.set({.path = "train.groups", .text = groups});
        StageNeeds needs(c);
        const size_t n = layout_of(c.model).size();
        const auto forecast_of = [&](size_t begin, size_t end, const RankShare& share) {
          return forecast_memory(c, share, {needs.of(begin, end, 2)});
        };
        for (const auto& [data, zero] : {std::pair(1, 0), {2, 0}, {2, 3}, {64, 1}, {64, 2}, {64, 3}}) {
          RankShare share = share_of();
          share.data_ranks = data, share.sharding = {zero, 600'000};
          for (size_t end = 1; end <= n; ++end) {
            for (size_t begin = 1; begin < end; ++begin) {
              SCOPED_TRACE(cat(std::string(mixers), ", recompute ", recompute, " ", std::string(groups), ", layers ",
                               begin, " to ", end, ", data ", data, " zero ", zero));
              const MemoryForecast f = forecast_of(begin, end, share), below = forecast_of(begin - 1, end, share);
              EXPECT_GE(never_lessened(below, share.sharding), never_lessened(f, share.sharding)) << "one below";
              shrank += below.more() < f.more() ? 1 : 0;
              if (end == n) continue;
              EXPECT_GE(never_lessened(forecast_of(begin, end + 1, share), share.sharding),
                        never_lessened(f, share.sharding))
                  << "one above";
            }
          }
        }
      }
    }
  }
  EXPECT_GT(shrank, 0);
}

TEST(Fitting, PiecesOfOneRankFitTogether) {
  const Config c = config_of(2, "interleaved", 2);
  const auto costs = layer_costs(c.model);
  StageNeeds needs(c);
  const Partition free = balanced_partition(c.model, costs, 4);
  const size_t most = neediest(c, share_of(), free);
  int others = 0;
  for (size_t limit = most; limit > most / 2; limit -= most / 50) {
    const Partition p = partition_within(c, share_of(), costs, limit, needs);
    if (p == free) continue;
    EXPECT_LE(neediest(c, share_of(), p), limit);
    ++others;
  }
  EXPECT_GT(others, 3);
}

}  // namespace
}  // namespace gf
