// SPDX-License-Identifier: Apache-2.0
#include "train/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "base/yaml.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

using Path = std::filesystem::path;

const Path kConfigs = Path(GF_SOURCE_DIR) / "configs";
constexpr const char* kSizes[] = {"L6D768minipile", "L12D768ctx1024minipile", "L24D2048ctx2048minipile",
                                  "L24D2048ctx4096minipile"};
constexpr const char* kModels[] = {"eagle",
                                   "finch",
                                   "finchc2",
                                   "finchc2_ablation_no_one_minus_w",
                                   "finchc2_ablation_no_v2",
                                   "goldfinch",
                                   "goldfinch_ablation_gold_invratio_2",
                                   "goldfinch_ablation_gold_invratio_6",
                                   "goldfinch_ablation_gptalpha",
                                   "goldfinch_ablation_rope10k",
                                   "goldfinch_upgrade",
                                   "gptalpha",
                                   "llama"};

Config shipped(std::initializer_list<std::string> names) {
  std::vector<Path> files;
  for (const auto& name : names) files.push_back(kConfigs / (name + ".yaml"));
  Config c = load_config(files);
  resolve(c);
  check(c);
  return c;
}

Config good() {
  Config c;
  c.model.vocab_size = 257;
  c.train.data_file = "data/x";
  return c;
}

// Changes a good config, resolves and checks it.
template <class Change>
void refused(Change&& change, const std::vector<std::string>& pieces) {
  Config c = good();
  change(c);
  expect_refused(pieces, [&] {
    resolve(c);
    check(c);
  });
}

template <class Change>
Config accepted(Change&& change) {
  Config c = good();
  change(c);
  resolve(c);
  check(c);
  return c;
}

TEST(Config, EverySizeGoesWithEveryModel) {
  for (const std::string size : kSizes) {
    for (const std::string model : kModels) {
      SCOPED_TRACE(size + " " + model);
      const Config c = shipped({size, model});
      const bool large = size.starts_with("L24");
      EXPECT_EQ(c.model.n_layer, large ? 24 : size.starts_with("L12") ? 12 : 6);
      EXPECT_EQ(c.model.dim_att, large ? 2048 : 768);
      EXPECT_EQ(c.model.dim_ffn, large ? 7168 : 2688);
      EXPECT_EQ(c.train.global_batch(), large ? 128 : 64);
      EXPECT_EQ(c.parallel.zero.value_or(-1), 2);
      EXPECT_EQ(c.parallel.bucket_mb.value_or(-1), 2);
      EXPECT_EQ(c.train.my_exit_tokens, 0) << "any data";
      EXPECT_EQ(c.train.magic_prime, 0);
    }
  }
}

TEST(Config, ShippedModelsAreThePublishedOnes) {
  const auto model = [](const std::string& name) { return shipped({"L12D768ctx1024minipile", name}).model; };
  EXPECT_EQ(model("goldfinch").first_upper(), 8);
  EXPECT_EQ(model("goldfinch").compressed_width(), 48);
  EXPECT_EQ(model("goldfinch").time_mix(8), "gold");
  EXPECT_FALSE(model("goldfinch").rope.has_value());
  EXPECT_EQ(model("goldfinch_ablation_gold_invratio_2").first_upper(), 6);
  EXPECT_EQ(model("goldfinch_ablation_gold_invratio_6").first_upper(), 10);
  EXPECT_EQ(model("goldfinch_ablation_gptalpha").time_mix(8), "gptalpha");
  EXPECT_EQ(model("goldfinch_ablation_rope10k").rope.value().base, 10000);
  EXPECT_EQ(model("goldfinch_upgrade").tmix, "x060");
  EXPECT_EQ(model("goldfinch_upgrade").first_upper(), 10);
  EXPECT_EQ(model("gptalpha").rope.value().base, 10000);
  EXPECT_EQ(model("llama").channel_width(model("llama").cmix), 2048);
  EXPECT_FALSE(model("finchc2_ablation_no_one_minus_w").use_one_minus_w);
  EXPECT_FALSE(model("finchc2_ablation_no_v2").use_v2);
  const TrainConfig upgrade = shipped({"L12D768ctx1024minipile", "goldfinch_upgrade"}).train;
  EXPECT_TRUE(upgrade.load_partial);
  EXPECT_EQ(upgrade.epoch_save, 1);
  EXPECT_EQ(upgrade.lr_final, 1e-5);
  EXPECT_EQ(upgrade.lr_init, 6e-4);
}

TEST(Config, QuickstartIsASmallGoldFinch) {
  const ModelConfig m = shipped({"quickstart"}).model;
  EXPECT_EQ(m.first_upper() * 3, m.n_layer * 2);
  EXPECT_EQ(m.time_mix(m.n_layer - 1), "gold");
  EXPECT_EQ(m.vocab_size, 257);
}

TEST(Config, EveryShippedFileIsTested) {
  std::set<std::string> files, tested{"quickstart"};
  for (const auto& entry : std::filesystem::directory_iterator(kConfigs))
    if (entry.is_regular_file()) files.insert(entry.path().stem());
  tested.insert(std::begin(kSizes), std::end(kSizes));
  tested.insert(std::begin(kModels), std::end(kModels));
  EXPECT_EQ(files, tested);
}

TEST(Config, LaterFilesAndThenOptionsOverrideKeyByKey) {
  const TempFolder folder;
  std::ofstream(folder / "a.yaml") << "model: {n_layer: 4, n_embd: 64, rope: {base: 5, rescale: 2}}\n"
                                      "train: {lr_init: 6e-4, adam_eps: 1e-08, proj_suffix: 7}\n";
  std::ofstream(folder / "b.json")
      << R"({"model": {"__type__": "configs.FinchC2_Config", "n_layer": 8, "rope": {"base": 9}},
                                          "__type__": "configs.TrainerCLI_Config"})";
  const Path files[] = {folder / "a.yaml", folder / "b.json"};
  const Setting options[] = {{.path = "train.lr_init", .text = "1e-3"}, {.path = "model.tmix", .text = "llama"}};
  const Config c = load_config(files, options);
  EXPECT_EQ(c.model.n_layer, 8);
  EXPECT_EQ(c.model.n_embd, 64);
  EXPECT_EQ(c.model.rope.value().base, 9);
  EXPECT_EQ(c.model.rope.value().rescale, 2);
  EXPECT_EQ(c.model.tmix, "llama");
  EXPECT_EQ(c.train.lr_init, 1e-3);
  EXPECT_EQ(c.train.adam_eps, 1e-8);
  EXPECT_EQ(c.train.proj_suffix, "7");
  EXPECT_EQ(c.train.lr_final, 1e-5);
}

TEST(Config, WhatIsNamedIsKnownBeItTheDefault) {
  const TempFolder folder;
  std::ofstream(folder / "a.yaml") << "parallel: {pipeline: 1, zero: 2, data: 4}\ntrain: {precision: null}\n";
  const Path files[] = {folder / "a.yaml"};
  const Setting options[] = {{.path = "parallel.schedule", .text = "one_f_one_b"},
                             {.path = "parallel.data", .text = "auto"}};
  GivenKeys given = {"of.before"};
  const Config c = load_config(files, options, &given);
  EXPECT_EQ(c.parallel.pipeline, Config().parallel.pipeline);
  for (const char* key : {"parallel.pipeline", "parallel.zero", "parallel.schedule"})
    EXPECT_TRUE(given.contains(key)) << key;
  // Not named, or left to the program by whoever had the last word.
  for (const char* key : {"parallel.pieces", "parallel.data", "train.precision", "train.data_file", "of.before"})
    EXPECT_FALSE(given.contains(key)) << key;
}

TEST(Config, AListIsReplacedAsAWhole) {
  const TempFolder folder;
  std::ofstream(folder / "a.yaml") << "train: {data_file: [a, b], validation_data_file: [v, w]}\n";
  std::ofstream(folder / "b.yaml")
      << "train:\n  data_file:\n  - {prefix: c, weight: 2}\n  - prefix: d\n    weight: 1\n";
  const Path files[] = {folder / "a.yaml", folder / "b.yaml"};
  const Setting options[] = {{.path = "train.validation_data_file", .text = "x"}};
  const Config c = load_config(files, options);
  EXPECT_EQ(c.train.data_file.text(), R"([{"prefix": "c", "weight": 2}, {"prefix": "d", "weight": 1}])");
  EXPECT_EQ(c.train.validation_data_file.text(), "x");
}

void refused_file(const std::string& yaml, const std::vector<std::string>& pieces) {
  const TempFolder folder;
  std::ofstream(folder / "my.yaml") << yaml;
  const Path files[] = {folder / "my.yaml"};
  expect_refused(pieces, [&] { load_config(files); });
}

TEST(Config, WrongKeysTypesAndValuesNameTheirLine) {
  refused_file("train:\n  lr_inti: 1\n", {"my.yaml:2", "no train.lr_inti; did you mean train.lr_init?"});
  refused_file("modle:\n  n_layer: 1\n", {"my.yaml:1", "no modle", "model"});
  refused_file("n_layer: 1\n", {"no n_layer; did you mean model.n_layer?"});
  refused_file("model:\n  n_layer: six\n", {"my.yaml:2", "model.n_layer", "\"six\"", "a whole number"});
  refused_file("model:\n  n_layer: 6.5\n", {"model.n_layer", "6.5", "a whole number"});
  refused_file("model:\n  dropout: [0.1]\n", {"model.dropout", "a list", "a real number"});
  refused_file("train:\n  grad_cp: 2\n", {"train.grad_cp", "0 or 1"});
  refused_file("train:\n  data_file:\n  - a\n  - {prefx: b}\n", {"my.yaml:4: train.data_file: entry 2", "prefix?"});
  refused_file("train: 5\n", {"train", "must be a section"});
  refused_file("model:\n  rope: 10000\n", {"model.rope", "10000", "section"});
  refused_file("model: {__type__: configs.Train_Config}\n", {"configs.Train_Config", "configs.Model_Config"});
  refused_file("model: {rope: {__type__: configs.Alibi_Config}}\n", {"configs.Alibi_Config", "configs.RoPE_Config"});
}

TEST(Config, ResolvedConfigReadsBackToItself) {
  std::vector<Config> all{good(), shipped({"quickstart"})};
  for (const std::string model : kModels) all.push_back(shipped({kSizes[1], model}));
  all.back().train.lr_init = 1.0 / 3;
  all.back().train.data_file = "a \"b\": #c\\";
  all.push_back(good());
  all.back().train.data_file.set({.path = "", .text = "[{prefix: a, weight: 0.7}, {prefix: [b, 'c, d'], weight: 1}]"});
  all.back().train.validation_data_file.set({.path = "", .text = "[a, b]"});
  for (Config& c : all) {
    resolve(c);
    Config back;
    apply_settings(parse_yaml(to_yaml(c), "written"), back);
    EXPECT_EQ(to_yaml(back), to_yaml(c));
    EXPECT_EQ(back.train.lr_init, c.train.lr_init);
    EXPECT_TRUE(back.train.data_file == c.train.data_file);
    EXPECT_TRUE(back.train.validation_data_file == c.train.validation_data_file);
    EXPECT_EQ(back.model.rope.has_value(), c.model.rope.has_value());
    resolve(back);
    EXPECT_EQ(to_yaml(back), to_yaml(c));
  }
}

TEST(Config, AutoFollowsTheMachineAndTheStrategy) {
  const Config cpu = accepted([](Config&) {});
  EXPECT_EQ(*cpu.train.accelerator, "cpu");
  EXPECT_EQ(*cpu.train.precision, "32");
  EXPECT_FALSE(cpu.parallel.zero.has_value());
  EXPECT_EQ(*cpu.parallel.bucket_mb, 200);
  Config gpu = good();
  resolve(gpu, true);
  EXPECT_EQ(*gpu.train.accelerator, "gpu");
  EXPECT_EQ(*gpu.train.precision, "bf16");
  const auto stage = [](const char* name, int64_t zero) {
    return *accepted([&](Config& c) {
              c.train.strategy.emplace(name);
              if (zero >= 0) c.parallel.zero.emplace(zero);
            }).parallel.zero;
  };
  EXPECT_EQ(stage("deepspeed_stage_1", -1), 1);
  EXPECT_EQ(stage("deepspeed_stage_3", -1), 3);
  EXPECT_EQ(stage("deepspeed_stage_3", 0), 0) << "an explicit parallel.zero stays";
}

TEST(Config, WhatThisMachineCannotDo) {
  refused([](auto& c) { c.train.accelerator.emplace("tpu"); }, {"train.accelerator", "\"tpu\"", "cpu, gpu"});
  refused([](auto& c) { c.train.precision.emplace("8"); }, {"train.precision", "\"8\"", "bf16-mixed"});
  for (const char* p : {"bf16", "bf16-true", "bf16-mixed", "tf32"}) {
    refused([&](auto& c) { c.train.precision.emplace(p), c.train.accelerator.emplace("cpu"); },
            {"train.precision is ", p, "needs a GPU", "--train.precision auto"});
  }
  for (const char* p : {"16", "16-true", "16-mixed"}) {
    refused([&](auto& c) { c.train.precision.emplace(p); }, {"train.precision is ", p, "narrow range"});
  }
  refused([](auto& c) { c.train.product_choices = "products.txt", c.train.accelerator.emplace("cpu"); },
          {"train.product_choices is products.txt", "on a GPU"});
  refused([](auto& c) { c.train.strategy.emplace("ddp"); }, {"train.strategy", "\"ddp\"", "deepspeed_stage_2"});
  refused([](auto& c) { c.train.strategy.emplace("deepspeed_stage_9"); }, {"deepspeed_stage_9"});
  refused([](auto& c) { c.parallel.pipeline = 0; }, {"parallel.pipeline is 0"});
  refused([](auto& c) { c.parallel.data.emplace(0); }, {"parallel.data is 0"});
  refused([](auto& c) { c.parallel.pieces = 2; }, {"parallel.pieces is 2", "one_f_one_b has one a rank"});
  accepted([](auto& c) { c.parallel.pieces = 2, c.parallel.schedule = "interleaved"; });
  refused([](auto& c) { c.parallel.schedule = "dualpipe"; }, {"parallel.schedule", "dualpipe", "one_f_one_b"});
  refused([](auto& c) { c.parallel.zero.emplace(4); }, {"parallel.zero is 4", "from 0 to 3"});
  refused([](auto& c) { c.parallel.trace_steps = 5000; }, {"parallel.trace_steps is 5000", "from 0 to 1000"});
  accepted([](auto& c) { c.parallel.zero.emplace(3), c.parallel.data.emplace(1); });
}

#ifndef GF_WITH_CUDA
TEST(Config, GpuNeedsABuildWithCuda) {
  refused([](auto& c) { c.train.accelerator.emplace("gpu"); }, {"train.accelerator is gpu", "without CUDA", "auto"});
}
#endif

TEST(Config, PlanningAGpuNeedsNone) {
  Config c = good();
  c.train.accelerator.emplace("gpu");
  resolve(c);
  EXPECT_EQ(*c.train.precision, "bf16");
  EXPECT_TRUE(c.train.on_gpu());
  EXPECT_NO_THROW(check(c, Purpose::planning));
  c.train.precision.emplace("16");
  expect_refused({"train.precision is 16", "narrow range"}, [&] { check(c, Purpose::planning); });
  c.train.accelerator.emplace("cpu"), c.train.precision.emplace("bf16");
  expect_refused({"train.precision is bf16", "needs a GPU"}, [&] { check(c, Purpose::planning); });
}

TEST(Config, ValuesThatCannotBe) {
  refused([](auto& c) { c.model.n_layer = 0; }, {"model.n_layer is 0"});
  refused([](auto& c) { c.train.data_file = ""; }, {"train.data_file is not set", "gf data tokenize"});
  const Setting weighted{.path = "", .text = "[{prefix: a, weight: 1}, {prefix: b, weight: 2}]"};
  accepted([&](auto& c) { c.train.data_file.set(weighted); });
  refused([&](auto& c) { c.train.data_file.set(weighted), c.train.magic_prime = 11; },
          {"train.magic_prime is 11", "weights", "--train.magic_prime 0"});
  refused([&](auto& c) { c.train.validation_data_file.set(weighted); },
          {"train.validation_data_file has weights", "[PREFIX, PREFIX]"});
  refused([](auto& c) { c.train.data_type = "utf-8"; }, {"train.data_type", "utf-8", "binidx"});
  refused([](auto& c) { c.train.magic_prime = -1; }, {"train.magic_prime is -1"});
  refused([](auto& c) { c.train.my_exit_tokens = -1; }, {"train.my_exit_tokens is -1"});
  refused([](auto& c) { c.train.seed_everything = -1; }, {"train.seed_everything is -1"});
  refused([](auto& c) { c.train.train_stage = 4; }, {"train.train_stage is 4", "from 0 to 3", "--train.train_stage 3"});
  refused([](auto& c) { c.train.epoch_begin = -1; }, {"train.epoch_begin is -1"});
  refused([](auto& c) { c.train.epoch_save = -1; }, {"train.epoch_save is -1"});
  refused([](auto& c) { c.train.save_every_steps = -1; }, {"train.save_every_steps is -1"});
  refused([](auto& c) { c.train.keep_checkpoints = -1; }, {"train.keep_checkpoints is -1"});
  refused([](auto& c) { c.train.max_steps = -1; }, {"train.max_steps is -1"});
  refused([](auto& c) { c.train.check_val_every_n_epoch = 0; }, {"train.check_val_every_n_epoch is 0"});
  refused([](auto& c) { c.train.val_check_interval.emplace(0); }, {"train.val_check_interval is 0"});
  refused([](auto& c) { c.train.val_check_interval.emplace(5); },
          {"train.val_check_interval is 5", "train.validation_data_file is not set"});
  accepted([](auto& c) { c.train.val_check_interval.emplace(5), c.train.validation_data_file = "v"; });
  refused([](auto& c) { c.train.log_every_n_steps = 0; }, {"train.log_every_n_steps is 0"});
  refused([](auto& c) { c.train.proj_dir = ""; }, {"train.proj_dir is empty"});
  refused([](auto& c) { c.train.proj_name = "../x"; }, {"train.proj_name", "../x", "--train.proj_dir"});
  refused([](auto& c) { c.train.proj_suffix = "a/b"; }, {"train.proj_suffix", "a/b"});
  refused([](auto& c) { c.train.ds_bucket_mb = 0; }, {"train.ds_bucket_mb is 0"});
  accepted([](auto& c) { c.train.data_file = "", c.train.train_stage = 1; });
}

TEST(Config, RatesThatCannotBe) {
  refused([](auto& c) { c.train.lr_init = 0; }, {"train.lr_init is 0"});
  refused([](auto& c) { c.train.lr_init = std::nan(""); }, {"train.lr_init is nan"});
  refused([](auto& c) { c.train.lr_final = -1; }, {"train.lr_final is -1"});
  refused([](auto& c) { c.train.lr_decay_type = "cosine"; }, {"train.lr_decay_type", "cosine", "oneminussqrt"});
  refused([](auto& c) { c.train.lr_decay_type = "exp", c.train.lr_final = 0; }, {"train.lr_final is 0", "exp"});
  refused([](auto& c) { c.train.lr_wait = 1; }, {"train.lr_wait is 1"});
  refused([](auto& c) { c.train.warmup_steps = -2; }, {"train.warmup_steps is -2", "from -1"});
  refused([](auto& c) { c.train.beta1 = 1; }, {"train.beta1 is 1", "below 1"});
  refused([](auto& c) { c.train.beta2 = -0.5; }, {"train.beta2 is -0.5"});
  refused([](auto& c) { c.train.adam_eps = 0; }, {"train.adam_eps is 0"});
  refused([](auto& c) { c.train.adam_eps = 1e-300; }, {"train.adam_eps is 1e-300", "from 1.17549e-38"});
  refused([](auto& c) { c.train.adam_eps = 1e300; }, {"train.adam_eps is 1e+300", "to 3.40282e+38"});
  accepted([](auto& c) { c.train.adam_eps = 1e-37; });
  refused([](auto& c) { c.train.weight_decay = -1; }, {"train.weight_decay is -1"});
  refused([](auto& c) { c.train.weight_decay_final = 0.1; }, {"train.weight_decay_final is 0.1", "weight_decay is 0"});
  refused([](auto& c) { c.train.gradient_clip_val = -1; }, {"train.gradient_clip_val is -1"});
  // 12 sequences of 1024 tokens a step: 10 steps of warm-up take 122880 tokens.
  refused([](auto& c) { c.train.warmup_steps = 10, c.train.my_exit_tokens = 122880; }, {"122880", "10 steps of 12288"});
  accepted([](auto& c) { c.train.warmup_steps = 10, c.train.my_exit_tokens = 122881; });
}

TEST(Config, WarmUpByItselfOnlyFromACheckpoint) {
  TrainConfig t;
  EXPECT_EQ(t.warmup(), 0);
  t.load_model = "x.h5";
  EXPECT_EQ(t.warmup(), 10);
  t.warmup_steps = 0;
  EXPECT_EQ(t.warmup(), 0);
  t.warmup_steps = 20;
  EXPECT_EQ(t.warmup(), 20);
}

TEST(Config, BatchIsSharedEvenlyOrTheMessageSaysHow) {
  TrainConfig t;
  t.num_nodes = 2, t.devices = 3, t.micro_bsz = 5, t.accumulate_grad_batches = 4;
  EXPECT_EQ(t.global_batch(), 120);
  EXPECT_EQ(microbatches_per_rank(t, 1), 24);
  EXPECT_EQ(microbatches_per_rank(t, 8), 3);
  expect_refused({"24 microbatches", "7 data ranks", "1, 2, 3, 4, 6, 8, 12, 24"}, [&] { microbatches_per_rank(t, 7); });
  expect_refused({"0 data ranks"}, [&] { microbatches_per_rank(t, 0); });
  expect_refused({"48 data ranks"}, [&] { microbatches_per_rank(t, 48); });
}

TEST(Config, BatchesThatCannotBe) {
  refused([](auto& c) { c.train.micro_bsz = 0; }, {"train.micro_bsz is 0"});
  refused([](auto& c) { c.train.devices = -1; }, {"train.devices is -1"});
  refused([](auto& c) { c.train.num_nodes = 0; }, {"train.num_nodes is 0"});
  refused([](auto& c) { c.train.accumulate_grad_batches = 0; }, {"train.accumulate_grad_batches is 0"});
  refused([](auto& c) { c.train.micro_bsz = INT64_MAX; }, {"train.micro_bsz is 9223372036854775807"});
  refused(
      [](auto& c) {
        c.train.micro_bsz = c.train.devices = c.train.num_nodes = c.train.accumulate_grad_batches = 1 << 20;
      },
      {"1048576", "sequences per optimizer step"});
  refused([](auto& c) { c.train.micro_bsz = 1 << 20, c.model.ctx_len = 1 << 20; },
          {"1048576", "tokens in one microbatch"});
}

TEST(Config, RunFolderIsNamedAfterTheModelOrByTheUser) {
  Config c = good();
  EXPECT_EQ(run_folder(c), "out/L6-D512-x060-0");
  c.model.tmix = "x060c2", c.model.tmix2 = "gold", c.train.proj_suffix = "b";
  EXPECT_EQ(run_folder(c), "out/L6-D512-x060c2_gold-b");
  c.train.proj_name = "mine", c.train.proj_dir = "/tmp/runs";
  EXPECT_EQ(run_folder(c), "/tmp/runs/mine-b");
}

}  // namespace
}  // namespace gf
