// SPDX-License-Identifier: Apache-2.0
#include "train/memory.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/binidx_files.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "train/build.h"
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

// Where no microbatch is small enough it is told how large a model may be; such a one fits, and one of half as many
// more does not.
TEST(Memory, ARunOfTooLargeAModelIsToldOfOneThatFits) {
  const auto of = [](int64_t channels) {
    Config c = run_of(1);
    c.train.grad_cp = true;
    c.model.n_embd = channels, c.model.dim_att = c.model.dim_ffn = 0;
    c.model.resolve();
    return c;
  };
  const Config large = of(2048);
  const auto need_of = [&](const Config& c) {
    MemoryForecast f = forecast(c, 1, 0);
    f.fit(0);
    return f;
  };
  const size_t room = need_of(of(1024)).more();
  std::string hint;
  try {
    check_memory(large, whole(large, 1, 0), need_of(large), {room});
    FAIL() << "it is refused";
  } catch (const Error& e) {
    hint = e.hint();
  }
  const std::string before = "a model of at most about ", after = "M parameters, or a machine with more memory";
  ASSERT_TRUE(hint.starts_with(before) && hint.ends_with(after)) << hint;
  const double most = std::stod(hint.substr(before.size())) * 1e6;
  const auto parameters = [](const Config& c) { return static_cast<double>(LayerStack(c.model).parameters().count()); };
  EXPECT_NEAR(most / parameters(of(1024)), 1, 0.15) << "that is just what fits";
  // Of several microbatches the smallest ones are what is reckoned with, and told.
  const Config several = [&] {
    Config c = of(2048);
    c.train.micro_bsz = 4;
    return c;
  }();
  expect_refused({"a model of at most about ", " parameters with --train.grad_cp 1 --train.micro_bsz 1 "},
                 [&] { check_memory(several, whole(several, 1, 0), need_of(several), {room}); });
}

// By what is left of a limit on address space no model fits: the limits that would do are told, with and without
// recompute.
TEST(Memory, ALimitThatLeavesNothingIsToldWithWhatItWouldHaveToBe) {
  const Config c = run_of(8);
  MemoryForecast f = forecast(c, 1, 0);
  f.fit(0);
  for (const size_t left : {size_t{0}, size_t{1'000'000}})
    expect_refused({"there are ", "(ulimit -v ", "), or ", " with --train.grad_cp 1 --train.micro_bsz 1 "}, [&] {
      check_memory(c, whole(c, 1, 0), f, {left, size_t{400} << 20});
    });
  expect_refused({"there are 0 B: of the "}, [&] { check_memory(c, whole(c, 1, 0), f, {0, size_t{400} << 20}); });
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

// What zero 1 shares, it takes a share of; what zero 2 and 3 give away keeps its place on a GPU.
TEST(Memory, OfAGpuZeroSharesMomentsAndMasters) {
  Config c = run_of(16);
  c.train.accelerator.emplace("gpu");
  const auto bytes_a_parameter = [&](const char* precision, int zero, int data_ranks) {
    c.train.precision.emplace(precision);
    RankShare share = whole(c, 1, 0);
    share.data_ranks = data_ranks, share.sharding.zero = zero;
    const MemoryForecast f = forecast_memory(c, share);
    return static_cast<double>(f.parameters + f.gradients + f.optimizer) / (static_cast<double>(f.gradients) / 4);
  };
  EXPECT_EQ(bytes_a_parameter("bf16", 0, 32), 18);
  EXPECT_EQ(bytes_a_parameter("bf16", 1, 1), 18) << "nobody to share with";
  EXPECT_EQ(bytes_a_parameter("bf16", 1, 2), 6 + 12.0 / 2);
  for (const int zero : {1, 2, 3}) {
    EXPECT_EQ(bytes_a_parameter("bf16", zero, 32), 6 + 12.0 / 32) << "zero " << zero;
    EXPECT_EQ(bytes_a_parameter("32", zero, 32), 8 + 8.0 / 32) << "zero " << zero;
  }
  EXPECT_EQ(bytes_a_parameter("32", 0, 32), 16);
  // Frozen masters are shared like the others.
  c.train.groups.set({.path = "train.groups", .text = "[{match: 'emb.*|blocks.*', freeze: 1}]"});
  c.train.precision.emplace("bf16");
  RankShare share = whole(c, 1, 0);
  share.data_ranks = 32, share.sharding.zero = 0;
  const size_t all = forecast_memory(c, share).parameters;
  share.sharding.zero = 1;
  // Of 6 bytes 2 + 4/32.
  EXPECT_EQ(forecast_memory(c, share).parameters, all / 3 + all / 3 * 2 / 32);
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

// What a save takes stays, and so is there beside a later validation; the last save comes after all of them. To be free
// it has to be in any case.
TEST(Memory, SavesMeetTheValidationsAfterThem) {
  const Config c = run_of(4);
  RankShare share = whole(c, 1, 4);
  MemoryForecast apart = forecast_memory(c, share);
  share.validates_after_saving = true;
  MemoryForecast together = forecast_memory(c, share);
  ASSERT_GT(apart.validation, 0u);
  apart.program = together.program;
  const auto over = [](const MemoryForecast& f) {
    return f.total() - f.program - f.libraries - f.parameters - f.gradients - f.optimizer - f.activations;
  };
  EXPECT_EQ(over(apart), std::max(apart.validation, apart.saving + apart.copy));
  EXPECT_EQ(over(together), together.validation + together.saving + together.copy);
  EXPECT_EQ(apart.more(), together.more());
  EXPECT_EQ(together.more(), together.total() - together.program + MemoryForecast::spare);
  share.validation_windows = 0;
  const MemoryForecast none = forecast_memory(c, share);
  EXPECT_EQ(over(none), none.saving + none.copy);
}

// When a run validates and saves follows from its configuration.
TEST(Memory, OfAPlanKnowsWhatComesAfterWhat) {
  const TempFolder folder;
  write_binidx<uint16_t>(folder / "data", std::vector<uint16_t>(40'000, 7), 8);
  const auto share_of = [&](const std::function<void(TrainConfig&)>& change, bool validates = true) {
    Config c = run_of(4);
    c.model.ctx_len = 16;
    c.train.data_file = DataList(folder / "data");
    if (validates) c.train.validation_data_file = DataList(folder / "data");
    c.train.proj_dir = folder / "out";
    c.train.my_exit_tokens = 10'000'000'000, c.train.max_steps = 10;
    change(c.train);
    resolve(c);
    check(c);
    const RankShare share = Plan(c).share_of(0);
    return std::pair(share.validation_windows > 0, share.validates_after_saving);
  };
  using Is = std::pair<bool, bool>;  // it validates, and after a save
  const auto each = [](TrainConfig& t) { t.val_check_interval.emplace(1); };
  EXPECT_EQ(share_of([](TrainConfig&) {}), Is(false, false)) << "no epoch ends in 10 steps";
  EXPECT_EQ(share_of(each), Is(true, false));
  EXPECT_EQ(share_of([&](TrainConfig& t) { t.val_check_interval.emplace(11); }), Is(false, false));
  EXPECT_EQ(share_of([&](TrainConfig& t) { each(t), t.save_every_steps = 9; }), Is(true, true));
  EXPECT_EQ(share_of([&](TrainConfig& t) { each(t), t.save_every_steps = 10; }), Is(true, false));
  EXPECT_EQ(share_of([&](TrainConfig& t) { each(t), t.save_every_minutes = 1; }), Is(true, true));
  const auto epochs = [](TrainConfig& t) { t.max_steps = 3 * kSamplesPerEpoch / 4; };
  EXPECT_EQ(share_of(epochs), Is(true, false)) << "the first save comes after five epochs";
  EXPECT_EQ(share_of([&](TrainConfig& t) { epochs(t), t.epoch_save = 3; }), Is(true, false));
  EXPECT_EQ(share_of([&](TrainConfig& t) { epochs(t), t.epoch_save = 2; }), Is(true, true));
  EXPECT_EQ(share_of([&](TrainConfig& t) { epochs(t), t.check_val_every_n_epoch = 4; }), Is(false, false));
  EXPECT_EQ(share_of([&](TrainConfig& t) { epochs(t), t.save_every_steps = 1; }, false), Is(false, false));
}

TEST(Memory, OrdinaryWindowsAreNot) {
  EXPECT_NO_THROW(check_evaluation_memory(model(32), 2, 64, ""));
}

}  // namespace
}  // namespace gf
