// SPDX-License-Identifier: Apache-2.0
// Fine-tuning: train.groups in whole runs, and upgrades of a checkpoint by load_partial.
#include "base/error.h"
#include "end_to_end/many_ranks.h"
#include "support/binidx_files.h"
#include "support/files.h"

namespace gf {
namespace {

using State = std::map<std::string, std::vector<float>>;

// GoldFinch of six layers, four of them below the key cache; these and the embedding are frozen.
constexpr const char* kFrozen = "emb.*|blocks\\.[0-3]\\..*";
const std::string kGroups = cat("[{match: '", kFrozen, "', freeze: 1}, {match: 'w_kv.*', lr_scale: 0.5}]");

bool is_frozen(const std::string& name) {
  return name.starts_with("emb.") || name.starts_with("blocks.0.") || name.starts_with("blocks.1.") ||
         name.starts_with("blocks.2.") || name.starts_with("blocks.3.");
}

class ManyRanksGroups : public ManyRanks {
 protected:
  ManyRanksGroups() { options_["train.groups"] = kGroups; }

  // The values that a run of this seed begins with.
  State fresh() {
    EXPECT_EQ(train({{"train.proj_suffix", "fresh"}, {"train.train_stage", "1"}, {"train.groups", ""}}).status, 0);
    return state("fresh");
  }
  void expect_frozen(const State& got, const State& begun) const {
    int frozen = 0;
    for (const auto& [name, values] : begun) {
      const std::string parameter = name.substr(std::string("model/").size());
      // Finch-C2's bonus has no effect, and its gradient is zero.
      if (!parameter.ends_with("time_faaaa")) {
        EXPECT_EQ(got.at(name) == values, is_frozen(parameter)) << name;
      }
      EXPECT_EQ(got.contains("optim/exp_avg/" + parameter), !is_frozen(parameter)) << name;
      frozen += is_frozen(parameter) ? 1 : 0;
    }
    EXPECT_GT(frozen, 40);
  }
};

TEST_F(ManyRanksGroups, FreezeTheSameOnAnyLayout) {
  const State begun = fresh();
  const ProgramResult one = train({{"train.proj_suffix", "one"}});
  ASSERT_EQ(one.status, 0) << one.err;
  EXPECT_NE(one.out.find("trained "), std::string::npos);
  EXPECT_NE(one.out.find("w_kv.*                   2 tensors: 0.5 times the rate"), std::string::npos) << one.out;
  expect_frozen(state("one"), begun);
  struct Layout {
    int ranks;
    const char *pipeline, *zero, *schedule, *recompute;
  };
  for (const Layout& l : {Layout{3, "3", "auto", "zero_bubble", "1"},
                          {2, "2", "auto", "one_f_one_b", "0"},
                          {2, "1", "0", "one_f_one_b", "0"},
                          {2, "1", "1", "one_f_one_b", "1"},
                          {4, "2", "2", "gpipe", "1"},
                          {4, "2", "3", "one_f_one_b", "0"}}) {
    const std::string suffix = cat(l.ranks, "-", l.pipeline, "-", l.zero, "-", l.schedule);
    SCOPED_TRACE(suffix);
    const Options layout{{"train.proj_suffix", suffix},
                         {"parallel.pipeline", l.pipeline},
                         {"parallel.zero", l.zero},
                         {"parallel.schedule", l.schedule},
                         {"train.grad_cp", l.recompute}};
    const ProgramResult result = train_on(l.ranks, layout);
    ASSERT_EQ(result.status, 0) << result.out << result.err;
    expect_close(suffix, "one");
    expect_frozen(state(suffix), begun);
  }
}

// Also on another layout: what is saved are all values, and the moments of what is trained.
TEST_F(ManyRanksGroups, GoOnWhereTheyStopped) {
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  trained({{"train.max_steps", "2"}});
  expect_same(trained(), whole);
  trained({{"train.proj_suffix", "ranks"}, {"train.max_steps", "2"}});
  const ProgramResult result =
      train_on(4, {{"train.proj_suffix", "ranks"}, {"parallel.pipeline", "2"}, {"parallel.zero", "3"}});
  ASSERT_EQ(result.status, 0) << result.err;
  expect_close("ranks", "whole");
  EXPECT_EQ(run_program("gf", {"ckpt", "verify", (run("ranks") / "checkpoints").string()}).status, 0);
}

TEST_F(ManyRanksGroups, OthersAreRefusedWhereARunGoesOn) {
  trained({{"train.max_steps", "2"}});
  const auto before = contents(run("0"));
  for (const auto& [other, first] : {std::pair("", "emb.weight"), {"[{match: 'emb.*', freeze: 1}]", "blocks.0."}}) {
    const ProgramResult result = train({{"train.groups", other}});
    EXPECT_EQ(result.status, 2);
    for (const char* piece :
         {"train.groups trains ", first, "was begun freezing it", "--train.load_model", "--train.proj_suffix"})
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << " is not in: " << result.err;
    EXPECT_TRUE(contents(run("0")) == before);
  }
  // Another rate for the same parameters is another schedule, which a run may have.
  const ProgramResult rate = train({{"train.groups", cat("[{match: '", kFrozen, "', freeze: 1}]")}});
  EXPECT_EQ(rate.status, 0) << rate.err;
  EXPECT_NE(rate.out.find("with the same parameters frozen"), std::string::npos) << rate.out;
}

TEST_F(ManyRanksGroups, OneThatMatchesNothingIsRefusedOnce) {
  const Options nothing{{"train.groups", "[{match: 'blocks\\.9.*', freeze: 1}]"}};
  const ProgramResult one = train(nothing);
  EXPECT_EQ(one.status, 2);
  EXPECT_NE(one.err.find("matches no parameter"), std::string::npos) << one.err;
  const ProgramResult two = train_on(2, nothing);
  const size_t told = two.err.find("matches no parameter");
  EXPECT_NE(told, std::string::npos);
  EXPECT_EQ(two.err.find("matches no parameter", told + 1), std::string::npos) << two.err;
  EXPECT_FALSE(std::filesystem::exists(run("0")));
}

// A rate of its own is that of a run with this rate, where nothing but the update differs.
TEST_F(ManyRanksGroups, ScaleTheRate) {
  const Options one_step{{"train.max_steps", "1"}, {"train.warmup_steps", "0"}};
  const auto trained_with = [&](const std::string& suffix, const std::string& groups, const char* rate) {
    Options o = one_step;
    o["train.proj_suffix"] = suffix, o["train.groups"] = groups, o["train.lr_init"] = rate;
    o["train.lr_final"] = rate;
    trained(o);
    return state(suffix);
  };
  const State slow = trained_with("slow", "", "1e-4"),
              scaled = trained_with("scaled", "[{match: '.*', lr_scale: 0.5}]", "2e-4");
  EXPECT_TRUE(slow == scaled);
}

// A GOLD stack on a Finch checkpoint: appended to its layers, and in the place of the uppermost.
TEST_F(ManyRanksGroups, UpgradeAFinchCheckpoint) {
  configs_ = {"finch"};
  trained({{"train.proj_suffix", "finch"}, {"train.groups", ""}, {"model.n_layer", "5"}});
  const State finch = state("finch");
  configs_ = {"goldfinch_upgrade"};
  for (const char* layers : {"6", "5"}) {
    SCOPED_TRACE(layers);
    const int kept = std::string(layers) == "6" ? 5 : 4;  // 5/6 of them, rounded down
    const std::string suffix = cat("upgraded", layers);
    const ProgramResult result =
        train({{"train.proj_suffix", suffix},
               {"model.n_layer", layers},
               {"train.load_model", checkpoints("finch").string()},
               {"train.groups", cat("[{match: 'emb.*|blocks\\.[0-", kept - 1, "]\\..*', freeze: 1}]")}});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("fresh ones for those it lacks"), std::string::npos) << result.out;
    const bool leaves_some = result.out.find("of its own are not in this model") != std::string::npos;
    EXPECT_EQ(leaves_some, kept == 4) << "the mixer of the fifth";
    EXPECT_EQ(result.out.find("\nwarning  blocks.4.att is gold now") != std::string::npos, kept == 4) << result.out;
    const State upgraded = state(suffix);
    EXPECT_TRUE(upgraded.contains(cat("model/blocks.", kept, ".att.ln_q.weight")));
    int same = 0;
    for (const auto& [name, values] : finch) {
      const bool below = name.starts_with("model/emb") || (name.starts_with("model/blocks.") && name[13] < '0' + kept);
      if (!below) continue;
      EXPECT_TRUE(upgraded.at(name) == values) << name;
      ++same;
    }
    EXPECT_GT(same, 20 * kept);
  }
}

// As docs/running.md has it, in small: all 24 layers as they are, and four of GOLD over them.
TEST_F(ManyRanksGroups, UpgradeInThePublishedProportion) {
  configs_ = {"finch"};
  options_["train.accumulate_grad_batches"] = "1";
  options_["train.max_steps"] = "2";
  options_["train.groups"] = "";
  const ProgramResult begun =
      train({{"train.proj_suffix", "finch"}, {"model.n_layer", "24"}, {"train.train_stage", "1"}});
  ASSERT_EQ(begun.status, 0) << begun.err;
  configs_ = {"goldfinch_upgrade"};
  const auto upgrade = [&](const char* suffix, const char* ratio) {
    const ProgramResult result =
        train({{"train.proj_suffix", suffix},
               {"model.n_layer", "28"},
               {"model.inv_other_layer_ratio", ratio},
               {"train.load_model", run("finch").string()},
               {"train.groups", "[{match: 'emb\\..*|blocks\\.([0-9]|1[0-9]|2[0-3])\\..*', freeze: 1}]"}});
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const std::string all = upgrade("all", "7");
  EXPECT_NE(all.find(": 678 of 808 tensors, fresh ones for those it lacks\n"), std::string::npos) << all;
  EXPECT_EQ(all.find("\nwarning "), std::string::npos) << all;
  const State finch = state("finch"), upgraded = state("all");
  int same = 0;
  for (const auto& [name, values] : finch) {
    if (!name.starts_with("model/emb") && !name.starts_with("model/blocks.")) continue;
    EXPECT_TRUE(upgraded.at(name) == values) << name;
    ++same;
  }
  EXPECT_GT(same, 20 * 24);
  EXPECT_TRUE(upgraded.contains("model/blocks.24.att.ln_q.weight"));
  EXPECT_FALSE(upgraded.contains("model/blocks.23.att.ln_q.weight"));
  // The upper sixth of 28 is five layers: one of them takes the place of a trained mixer.
  const std::string less = upgrade("less", "6");
  EXPECT_NE(less.find(": 665 of 812 tensors"), std::string::npos) << less;
  EXPECT_NE(less.find("\nwarning  blocks.23.att is gold now, and 13 tensors of the mixer that the checkpoint has there "
                      "are dropped; --model.inv_other_layer_ratio 7 "),
            std::string::npos)
      << less;
}

// Where the lower layers are frozen, stages of equal cost are soon of new layers alone: nothing is read there.
TEST_F(ManyRanksGroups, UpgradeWithAStageOfNewLayersAlone) {
  configs_ = {"finch"};
  options_["train.groups"] = "";
  ASSERT_EQ(train({{"train.proj_suffix", "finch"}, {"model.n_layer", "2"}, {"train.train_stage", "1"}}).status, 0);
  configs_ = {"goldfinch_upgrade"};
  options_.merge(Options{{"model.inv_other_layer_ratio", "2"}, {"train.load_model", run("finch").string()}});
  options_["model.n_layer"] = "4";
  options_["train.groups"] = "[{match: 'emb\\..*|blocks\\.[01]\\..*', freeze: 1}]";
  const ProgramResult one = train({{"train.proj_suffix", "one"}});
  ASSERT_EQ(one.status, 0) << one.err;
  const ProgramResult three =
      train_on(3, {{"train.proj_suffix", "three"}, {"parallel.pipeline", "3"}, {"parallel.partition", "0-1,2,3"}});
  ASSERT_EQ(three.status, 0) << three.err;
  expect_close("three", "one");
}

TEST_F(ManyRanksGroups, NothingToLoadInPartIsRefused) {
  const std::string header = R"({"other":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  std::string file;
  append_bytes(file, static_cast<uint64_t>(header.size()));
  write_file(folder_ / "other.safetensors", file + header + std::string(4, '\0'));
  const ProgramResult result = train_on(2, {{"train.load_model", (folder_ / "other.safetensors").string()},
                                            {"train.load_partial", "1"},
                                            {"train.groups", ""}});
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_NE(result.err.find("the checkpoint has none of the model's parameters"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace gf
