// SPDX-License-Identifier: Apache-2.0
#include "train/memory.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/expect_error.h"
#include "train/planner/traffic.h"

namespace gf {
namespace {

ModelConfig model(int64_t n_embd) {
  ModelConfig c;
  c.vocab_size = 257, c.n_layer = 2, c.n_embd = n_embd, c.head_size = 16;
  c.resolve();
  return c;
}

// 2^30 tokens of 8192 channels: no machine has 35 TB.
TEST(Memory, WindowsThatTakeMoreThanThereIsAreRefused) {
  expect_refused({"64 windows of 16777216 tokens", "memory", "fewer of them"},
                 [] { check_evaluation_memory(model(8192), 64, kMaxContext, "fewer of them"); });
}

Config run_of(int64_t sequences) {
  Config c;
  c.model = model(256);
  c.model.ctx_len = 512;
  c.train.micro_bsz = sequences;
  resolve(c);
  return c;
}

// All of it on one rank.
RankShare whole(const Config& c, int64_t microbatches, int64_t windows) {
  RankShare share;
  share.partition = balanced_partition(c.model, layer_costs(c.model), 1);
  share.microbatches = microbatches;
  share.validation_windows = windows;
  return share;
}

MemoryForecast forecast(const Config& c, int64_t microbatches, int64_t windows) {
  return forecast_memory(c, whole(c, microbatches, windows));
}

TEST(Memory, ARunThatTakesMoreThanThereIsIsToldWhatFits) {
  const Config c = run_of(16);
  const MemoryForecast f = forecast(c, 1, 0);
  EXPECT_NO_THROW(check_memory(c, whole(c, 1, 0), f, {f.more()}));
  expect_refused({"the run needs", "there are", "--train.grad_cp 1, which needs"},
                 [&] { check_memory(c, whole(c, 1, 0), f, {f.more() - 1}); });
  // A quarter of the activations, with all else.
  expect_refused({"--train.grad_cp 1 --train.micro_bsz ", " --train.accumulate_grad_batches ", ", which needs "},
                 [&] { check_memory(c, whole(c, 1, 0), f, {f.more() - f.activations + f.activations / 4}); });
  expect_refused({"a smaller model"}, [&] { check_memory(c, whole(c, 1, 0), f, {f.parameters}); });
  // Where the process has too little address space, that is what the user can change.
  expect_refused({"(ulimit -v ", "), or --train.grad_cp 1, which needs"}, [&] {
    check_memory(c, whole(c, 1, 0), f, {f.more() - 1, 4096});
  });
  // 15 sequences go by fives and threes too.
  const Config odd = run_of(15);
  const MemoryForecast g = forecast(odd, 1, 0);
  expect_refused({"--train.micro_bsz 1 --train.accumulate_grad_batches 15"}, [&] {
    Config one = run_of(1);
    one.train.grad_cp = true;
    check_memory(odd, whole(odd, 1, 0), g, {forecast(one, 2, 0).more()});
  });
}

// Over ranks each needs its share, and the first one in 1F1B keeps the most microbatches.
TEST(Memory, OfARankIsItsShare) {
  Config c = run_of(2);
  c.model.n_layer = 12;
  c.model.resolve();
  const MemoryForecast one = forecast(c, 8, 0);
  c.parallel.pipeline = 2;
  RankShare first;
  first.partition = balanced_partition(c.model, layer_costs(c.model), 2);
  first.microbatches = 8;
  RankShare second = first;
  second.stage = 1;
  const MemoryForecast lower = forecast_memory(c, first), upper = forecast_memory(c, second);
  EXPECT_EQ(lower.parameters + upper.parameters, one.parameters);
  c.parallel.schedule = "gpipe";
  EXPECT_EQ(forecast_memory(c, first).activations, 4 * lower.activations) << "eight in flight, against two";
  first.data_ranks = 4;
  for (const int zero : {0, 1, 2, 3}) {
    first.sharding = {zero, 1};
    const MemoryForecast f = forecast_memory(c, first);
    const auto share = [&](size_t bytes, bool sharded) {
      const double part = static_cast<double>(bytes) / static_cast<double>(lower.parameters);
      EXPECT_EQ(part < 1, sharded) << part;
    };
    share(f.optimizer / 2, zero >= 1);
    share(f.gradients, zero >= 2);
    share(f.parameters, zero >= 3);
  }
}

// A bucket at a time comes from the other data ranks, and what stages share goes round once more.
TEST(Memory, ReductionsTakeTheLargestBucket) {
  Config c = run_of(2);
  c.model.n_layer = 8;
  c.model.resolve();
  RankShare share = whole(c, 1, 0);
  EXPECT_EQ(forecast_memory(c, share).reductions, 0u) << "nobody to sum with";
  share.data_ranks = 2;
  const auto of = [&](int64_t bucket_bytes) {
    share.sharding = {1, bucket_bytes};
    const RankLayers layers(c, share);
    const auto largest = std::ranges::max_element(layers.buckets, {}, [](const auto& b) { return b.range.size(); });
    const MemoryForecast f = forecast_memory(c, share);
    EXPECT_EQ(f.reductions, static_cast<size_t>(largest->range.size()) * sizeof(float)) << bucket_bytes;
    EXPECT_GE(f.more(), f.parameters + f.gradients + f.optimizer + f.reductions + f.activations + f.copy);
    return f.reductions;
  };
  const MemoryForecast f = forecast_memory(c, share);
  EXPECT_EQ(of(1 << 30), f.gradients) << "all in one";
  const size_t layer = of(1), some = of(8 << 20);
  EXPECT_LT(layer, some);
  EXPECT_LT(some, f.gradients);
  // Keys are expanded by two stages of four.
  c.model.tmix2 = "gold", c.model.tmix = "x060c2";
  c.model.resolve();
  c.parallel.pipeline = 4;
  share.partition = given_partition(c.model, "0-1,2-3,4-5,6-7", 4);
  share.stage = 3;
  const RankLayers upper(c, share);
  const auto shared = std::ranges::find(upper.buckets, true, &BucketRange::shared);
  ASSERT_NE(shared, upper.buckets.end());
  const auto largest = std::ranges::max_element(upper.buckets, {}, [](const auto& b) { return b.range.size(); });
  EXPECT_EQ(forecast_memory(c, share).reductions,
            static_cast<size_t>(largest->range.size() + shared->range.size() / 2) * sizeof(float));
}

// Frozen parameters have values alone, and what is below all that is trained keeps no activations.
TEST(Memory, FrozenParametersTakeNoGradients) {
  Config c = run_of(2);
  const MemoryForecast all = forecast(c, 1, 0);
  c.train.groups.set({.path = "train.groups", .text = "[{match: 'emb.*|blocks.0.*', freeze: 1}]"});
  const MemoryForecast some = forecast(c, 1, 0);
  EXPECT_NEAR(static_cast<double>(some.parameters), static_cast<double>(all.parameters), 1024) << "but for padding";
  EXPECT_LT(some.gradients, all.gradients);
  EXPECT_EQ(some.optimizer, 2 * some.gradients);
  EXPECT_EQ(some.copy, some.parameters + some.optimizer);
  EXPECT_LT(some.activations, all.activations);

  c.parallel.pipeline = 2, c.parallel.schedule = "gpipe";
  c.train.groups.set({.path = "train.groups", .text = "[{match: 'emb.*|blocks.*', freeze: 1}]"});
  RankShare first;
  first.partition = given_partition(c.model, text_of(c.model, balanced_partition(c.model, layer_costs(c.model), 2)), 2);
  first.microbatches = 8;
  const MemoryForecast below = forecast_memory(c, first);
  EXPECT_EQ(below.gradients, 0u);
  EXPECT_EQ(below.optimizer, 0u);
  first.microbatches = 1;
  EXPECT_EQ(forecast_memory(c, first).activations, below.activations) << "none stays for a backward pass";
}

// In any build: activations of half the bytes, and bf16 values beside masters, gradients and moments of float32.
TEST(Memory, OfAGpuIsThatOfItsPrecision) {
  Config c = run_of(16);
  c.train.accelerator.emplace("gpu");
  const auto in = [&](const char* precision) {
    c.train.precision.emplace(precision);
    return forecast(c, 1, 16);
  };
  const MemoryForecast wide = in("32"), narrow = in("bf16");
  EXPECT_TRUE(wide.on_gpu && narrow.on_gpu);
  EXPECT_EQ(narrow.parameters, wide.parameters + wide.parameters / 2);
  EXPECT_EQ(narrow.gradients, wide.gradients);
  EXPECT_EQ(narrow.optimizer, wide.optimizer);
  // Half, but for statistics, logits and what some kernels work in; and a GPU's arenas grow by 32 MiB.
  const double share = static_cast<double>(narrow.activations) / static_cast<double>(wide.activations);
  EXPECT_GT(share, 0.4);
  EXPECT_LT(share, 0.8);
  EXPECT_LE(narrow.validation, wide.validation);
}

TEST(Memory, ValidationCounts) {
  const Config c = run_of(4);
  const size_t activation = size_t{512} * 256 * 4;
  EXPECT_EQ(forecast(c, 1, 0).validation, 0u);
  const size_t two = forecast(c, 1, 2).validation;
  EXPECT_GT(two, 2 * activation);
  EXPECT_GT(forecast(c, 1, 4).validation, two);
  EXPECT_EQ(forecast(c, 1, 100).validation, forecast(c, 1, 4).validation) << "never more than micro_bsz";
}

TEST(Memory, OrdinaryWindowsAreNot) {
  EXPECT_NO_THROW(check_evaluation_memory(model(32), 2, 64, ""));
}

}  // namespace
}  // namespace gf
