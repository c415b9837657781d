// SPDX-License-Identifier: Apache-2.0
#include "train/planner/forecast.h"

#include <gtest/gtest.h>

#include "base/clock.h"
#include "parallel/partition.h"
#include "train/planner/layer_times.h"

namespace gf {
namespace {

// Blocks alone take time, each the same, so that stages of as many blocks are even.
Config config_of(int64_t n_layer, int64_t pipeline, int64_t microbatches) {
  Config c;
  c.model.n_layer = n_layer, c.model.n_embd = 32, c.model.head_size = 16, c.model.ctx_len = 16, c.model.vocab_size = 65;
  c.train.micro_bsz = 1, c.train.accumulate_grad_batches = microbatches;
  c.parallel.pipeline = pipeline;
  resolve(c);
  return c;
}

LayerTimes blocks_take(const PassSeconds& t) {
  LayerTimes times;
  times.lower = t;
  return times;
}

RankShare share_of(const Config& c, const LayerTimes& times, int data = 1, int zero = 0) {
  RankShare share;
  share.data_ranks = data;
  share.sharding = {zero, 1 << 20};
  share.partition =
      balanced_partition(c.model, costs_of(c, times), static_cast<int>(c.parallel.pipeline * c.parallel.pieces));
  share.microbatches = microbatches_per_rank(c.train, data);
  return share;
}

LayoutForecast forecast(const Config& c, const LayerTimes& times, const Hardware* h = nullptr, int data = 1,
                        int zero = 0) {
  StageNeeds needs(c);
  return forecast_layout(c, share_of(c, times, data, zero), times, needs, h);
}

Hardware machine() {
  Hardware h;
  h.ranks_per_node = 1 << 20;
  h.rank = {1e12, 1, 1e12, 1e30};
  h.within_node.emplace(Link{1e30, 0, true});
  return h;
}

// As EverySchedule (tests/parallel/simulation_test.cpp) has them; here with the costs of a model cut into even stages.
TEST(Forecast, BubblesAreThoseOfTheFormulas) {
  for (const int64_t p : {2, 4}) {
    for (const int64_t m : {8, 16}) {
      const double fill = static_cast<double>(p - 1) / static_cast<double>(m);
      const auto overhead = [&](const std::string& schedule, int64_t pieces) {
        Config c = config_of(8, p, m);
        c.parallel.schedule = schedule, c.parallel.pieces = pieces;
        const LayoutForecast f = forecast(c, blocks_take({1, 1, 1}));
        EXPECT_NEAR(f.unevenness(), 0, 1e-12);
        EXPECT_NEAR(f.fill(), f.simulation.bubble(), 1e-12);
        return 1 / (1 - f.fill()) - 1;
      };
      EXPECT_NEAR(overhead("gpipe", 1), fill, 1e-12);
      EXPECT_NEAR(overhead("one_f_one_b", 1), fill, 1e-12);
      EXPECT_NEAR(overhead("interleaved", 2), fill / 2, 1e-12);
      EXPECT_NEAR(overhead("zero_bubble", 1), fill / 3, 1e-12);
    }
  }
}

// Seconds of a microbatch of 512 tokens through one block as `gf plan --measure` saw them (goldfinch, n_embd 1024, one
// thread of a Xeon). Gradients of weights are a third of the work, as the formula wants it: nearly.
TEST(Forecast, ZeroBubbleIdlesLessThanHalfAsLong) {
  const LayerTimes times = blocks_take({0.133, 0.159, 0.129});
  Config c = config_of(24, 4, 16);
  const double one_f_one_b = forecast(c, times).simulation.bubble();
  c.parallel.schedule = "zero_bubble";
  const double zero_bubble = forecast(c, times).simulation.bubble();
  EXPECT_LT(zero_bubble, one_f_one_b / 2);
  EXPECT_GT(zero_bubble, one_f_one_b / 4) << "the formula says (F + B - W) / (F + B + W) of it, 0.39";
}

TEST(Forecast, UnevenStagesCountApart) {
  const Config c = config_of(3, 2, 16);  // one block and two
  const LayoutForecast f = forecast(c, blocks_take({1, 1, 1}));
  // The dearer stage takes 2 * 3 * 16, and waits for the first forward and the last backward pass of the other.
  EXPECT_NEAR(f.simulation.time, 96 + 3, 1e-9);
  EXPECT_NEAR(f.fill(), 3.0 / 99, 1e-12);
  EXPECT_NEAR(f.unevenness(), (96 - 72) / 99.0, 1e-12);
}

TEST(Forecast, OneRankTakesItsPassesAndItsUpdate) {
  const Config c = config_of(4, 1, 8);
  Hardware h = machine();
  h.rank.memory_bandwidth = 1e6;
  const LayoutForecast f = forecast(c, blocks_take({0.5, 0.25, 0.125}), &h);
  EXPECT_DOUBLE_EQ(f.step.pipeline, 8 * 4 * 0.875);
  EXPECT_DOUBLE_EQ(f.step.update, 9 * static_cast<double>(f.ranks[0].memory.parameters) / 1e6);
  EXPECT_EQ(f.step.gather, 0);
  EXPECT_DOUBLE_EQ(f.tokens_per_s, 8 * 16 / f.step.all());
  h.measured.emplace();
  h.measured->update = 1e-3;
  EXPECT_DOUBLE_EQ(forecast(c, blocks_take({1, 1, 1}), &h).step.update,
                   1e-3 * static_cast<double>(f.ranks[0].memory.parameters) / 4);
}

TEST(Forecast, MemoryAndBytesAreThoseOfTheParts) {
  Config c = config_of(6, 3, 12);
  c.parallel.schedule = "zero_bubble";
  const LayerTimes times = fixed_times(c.model);
  const LayoutForecast f = forecast(c, times, nullptr, 2, 2);
  RankShare share = share_of(c, times, 2, 2);
  ASSERT_EQ(f.ranks.size(), 3u);
  int64_t parameters = 0;
  for (share.stage = 0; share.stage < 3; ++share.stage) {
    const RankForecast& r = f.ranks[share.stage];
    const MemoryForecast m = forecast_memory(c, share);
    EXPECT_EQ(r.memory.parameters, m.parameters);
    EXPECT_EQ(r.memory.gradients, m.gradients);
    EXPECT_EQ(r.memory.optimizer, m.optimizer);
    EXPECT_EQ(r.memory.activations, m.activations);
    const SentBytes sent = sent_bytes(c, share);
    EXPECT_EQ(r.sent.pipeline, sent.pipeline);
    EXPECT_EQ(r.sent.data, sent.data);
    parameters += r.parameters;
  }
  EXPECT_EQ(parameters, LayerStack(c.model).parameters().count());
  EXPECT_EQ(f.simulation.most_in_flight(), 3);
  EXPECT_EQ(f.tokens_per_s, 0) << "no hardware, no time";
}

// A link so slow that only it counts: each way of sharing parameters takes as long as its bytes.
TEST(Forecast, SharingTakesItsBytes) {
  const Config c = config_of(4, 1, 8);
  Hardware h = machine();
  const auto seconds = [&](int zero, bool overlaps) {
    h.within_node.emplace(Link{1e3, 0, overlaps});
    const LayoutForecast f = forecast(c, blocks_take({1e-9, 1e-9, 1e-9}), &h, 2, zero);
    // Besides, all ranks tell each other the norm's sums, 8 bytes a parameter's name, there and back.
    const double norm = f.step.update;
    EXPECT_LT(norm, 0.1 * f.step.all());
    EXPECT_NEAR(f.step.pipeline + f.step.gather, f.ranks[0].sent.data / 1e3, 1e-3 * f.step.all()) << zero << overlaps;
    return f.step.all();
  };
  for (const bool overlaps : {false, true}) {
    EXPECT_NEAR(seconds(0, overlaps), seconds(1, overlaps), 1e-9);
    EXPECT_GT(seconds(2, overlaps), 2 * seconds(1, overlaps)) << "four microbatches are reduced, not one";
  }
}

// Over a slow link messages and gathered values of bf16 take half as long, gradients as long as ever.
TEST(Forecast, Bf16TakesItsBytes) {
  Hardware h = machine();
  h.within_node.emplace(Link{1e3, 0, false});
  // Of that in float32.
  const auto share_of_bf16 = [&](int64_t pipeline, int data, int zero) {
    const LayerTimes times = blocks_take({1e-9, 1e-9, 1e-9});
    Config c = config_of(4, pipeline, data);  // a microbatch a data rank
    StageNeeds needs(c);
    const RankShare share = share_of(c, times, data, zero);
    const auto seconds = [&](const char* precision) {
      c.train.precision.emplace(precision);
      const LayoutForecast f = forecast_layout(c, share, times, needs, &h);
      EXPECT_NEAR((f.ranks[0].sent.data + 2 * f.ranks[0].sent.pipeline) / 1e3, f.step.pipeline + f.step.gather, 1e-3);
      return f.step.pipeline + f.step.gather;
    };
    const double wide = seconds("32");
    return seconds("bf16") / wide;
  };
  EXPECT_NEAR(share_of_bf16(2, 1, 0), 0.5, 1e-6) << "messages";
  EXPECT_NEAR(share_of_bf16(1, 2, 0), 1, 1e-6) << "gradients reduced and gathered";
  EXPECT_NEAR(share_of_bf16(1, 2, 1), 0.75, 1e-6) << "gradients reduced, values gathered";
  EXPECT_LE(share_of_bf16(1, 2, 3), 0.75 + 1e-6) << "values gathered at least once";
}

// On a GPU the update writes bf16 values too; that of a CPU, measured, tells nothing of it. All its memory is for the
// run, none for the program.
TEST(Forecast, OfAGpuIsOfItsUpdateAndMemory) {
  Config c = config_of(4, 1, 1);
  c.train.accelerator.emplace("gpu"), c.train.precision.emplace("bf16");
  Hardware h = machine();
  h.rank.memory_bandwidth = 1e6;
  h.measured.emplace();
  h.measured->update = 1;
  const LayoutForecast f = forecast(c, blocks_take({1, 1, 1}), &h);
  const RankShare share = share_of(c, blocks_take({1, 1, 1}));
  EXPECT_DOUBLE_EQ(f.step.update, 38e-6 * static_cast<double>(RankLayers(c, share).trained));
  EXPECT_EQ(f.ranks[0].memory.program, 0u);
  EXPECT_EQ(f.ranks[0].memory.total(), f.ranks[0].memory.more());
}

// One bucket is reduced at a time: over a slow link a stage that has many waits in its last pass for all but the last
// of them, and so does the stage below. With one bucket a stage both reduce at once.
TEST(Forecast, SmallBucketsHoldUpTheStagesBelow) {
  const Config c = config_of(8, 2, 4);
  const LayerTimes times = blocks_take({1e-9, 1e-9, 1e-9});
  Hardware h = machine();
  h.within_node.emplace(Link{1e3, 0, true});
  const auto seconds = [&](int64_t bucket_bytes) {
    RankShare share = share_of(c, times, 2, 1);
    share.sharding.bucket_bytes = bucket_bytes;
    StageNeeds needs(c);
    return forecast_layout(c, share, times, needs, &h).step.pipeline;
  };
  const double one = seconds(1 << 30), many = seconds(1);
  EXPECT_GT(many, 1.6 * one);
  EXPECT_LT(many, 2 * one);
}

// With two ranks a node and slow links between nodes a run keeps what is heavier inside, and so does its forecast.
TEST(Forecast, WhatIsHeavierStaysWithinANode) {
  Hardware h = machine();
  h.nodes = 2, h.ranks_per_node = 2;
  h.between_nodes.emplace(Link{1e3, 0, true});
  const auto of = [&](int64_t microbatches) {
    return forecast(config_of(4, 2, 2 * microbatches), blocks_take({1e-9, 1e-9, 1e-9}), &h, 2, 1);
  };
  const LayoutForecast few = of(1), many = of(200);
  EXPECT_EQ(few.placement.find("gradients go within a node, activations between nodes; data ranks are"), 0u);
  EXPECT_EQ(many.placement.find("gradients go between nodes, activations within a node; stages are"), 0u);
  // Activations of 200 microbatches between nodes would take longer than all gradients do.
  EXPECT_LT(many.step.all(), many.most_sent().pipeline / 1e3);
  h.ranks_per_node = 4;
  EXPECT_EQ(of(1).placement, "");
}

// Memory that is slow to come: the parts that a sum is taken of, and with zero 2 what others' gradients are added to,
// which is read first and then written.
TEST(Forecast, FreshMemoryIsPaidFor) {
  const Config c = config_of(4, 1, 8);
  Hardware h = machine();
  h.rank.fresh_bandwidth = 1e6;
  const auto pipeline = [&](int zero) {
    const LayoutForecast f = forecast(c, blocks_take({1e-9, 1e-9, 1e-9}), &h, 2, zero);
    return f.step.pipeline / (static_cast<double>(f.ranks[0].memory.parameters) / 1e6);
  };
  EXPECT_NEAR(pipeline(1), 0, 1e-3) << "what is summed up comes into memory that is kept";
  EXPECT_NEAR(pipeline(2), 4 * 2 * 0.5, 1e-3) << "four microbatches, half of the gradients others'";
}

// What moves by itself goes on beside the passes, all but the lowest layers' gradients.
TEST(Forecast, OverlapHidesReductions) {
  const Config c = config_of(8, 1, 8);
  Hardware h = machine();
  const LayerTimes times = blocks_take({1, 1, 1});
  const auto step = [&](bool overlaps) {
    h.within_node.emplace(Link{2e5, 0, overlaps});
    RankShare share = share_of(c, times, 2, 1);
    share.sharding.bucket_bytes = 1;  // a bucket a layer
    StageNeeds needs(c);
    return forecast_layout(c, share, times, needs, &h).step;
  };
  const StepSeconds beside = step(true), after = step(false);
  EXPECT_LT(beside.pipeline, after.pipeline);
  EXPECT_GT(beside.pipeline, 4 * 8 * 3);
  EXPECT_LT(beside.gather, after.gather);
}

TEST(Forecast, SixteenThousandRanksTakeSeconds) {
  const Config c = config_of(64, 64, 256 * 64);  // 64 stages, 256 data ranks, 64 microbatches each
  Hardware h = machine();
  h.ranks_per_node = 8;
  h.between_nodes.emplace(Link{1e9, 1e-5, true});
  const Stopwatch watch;
  const LayoutForecast f = forecast(c, blocks_take({1, 1, 1}), &h, 256, 2);
  EXPECT_EQ(f.ranks.size(), 64u);
  EXPECT_NEAR(f.fill(), 63.0 / (64 + 63), 1e-3) << "messages take microseconds";
  EXPECT_LT(watch.seconds(), 20) << "a fraction of a second on an idle machine";
}

}  // namespace
}  // namespace gf
