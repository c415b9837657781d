// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/ablation.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "train/ablation/costs.h"
#include "train/ablation/outcome.h"

namespace gf {
namespace {

const std::string kConfigs = cat(GF_SOURCE_DIR, "/configs/");

class Ablations : public testing::Test {
 protected:
  Ablation read(const std::string& yaml) {
    std::ofstream(folder_ / "mine.yaml") << yaml;
    return read_ablation(folder_ / "mine.yaml");
  }
  // One entry among others that are fine.
  void refused(const std::string& entry, const std::vector<std::string>& pieces) {
    SCOPED_TRACE(entry);
    expect_refused(pieces, [&] { read("variants:\n- {name: a}\n- " + entry + "\nseeds: [1]\n"); });
  }
  static ConfigParts base(const std::string& size) {
    return {{kConfigs + size}, {{.path = "train.data_file", .text = "none"}}};
  }
  static ModelConfig model(const std::string& size, const std::string& overlay) {
    const std::vector<std::filesystem::path> files{kConfigs + size, kConfigs + overlay};
    Config c = load_config(files);
    c.model.resolve();
    return c.model;
  }
  TempFolder folder_;
};

TEST_F(Ablations, AreRead) {
  const Ablation a = read(R"(
variants:
- {name: finch, set: {model.tmix: x060}}
- name: llama+1.0_x
  set: {model: {tmix: llama, cmix: llama, rope: {}, brope: null}}
- name: base
seeds: [3, 1]
match: flops
)");
  EXPECT_EQ(a.name, "mine");
  ASSERT_EQ(a.variants.size(), 3u);
  EXPECT_EQ(a.variants[0].settings.at(0).path, "model.tmix");
  ASSERT_EQ(a.variants[1].settings.size(), 4u);
  EXPECT_EQ(a.variants[1].settings[2].path, "model.rope");
  EXPECT_EQ(a.variants[1].settings[2].text, "on");
  EXPECT_EQ(a.variants[1].settings[3].text, "none");
  EXPECT_TRUE(a.variants[2].settings.empty());
  EXPECT_EQ(a.seeds, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(a.match, Ablation::Match::flops);
}

TEST_F(Ablations, WhatCannotBeIsRefusedWithItsPlace) {
  refused("{name: a}", {"mine.yaml:3", "variants: entry 2", "it is called a, as entry 1 is"});
  const std::string hint = "[try: variants: [{name: ";  // and no option
  refused("{name: b, sett: {}}", {"entry 2", "sett", "did you mean set", hint});
  refused("{name: [b]}", {"entry 2: name is a list", hint});
  refused("{set: {model.tmix: x060}}", {"entry 2", "there is no name"});
  refused("b", {"entry 2", "no section"});
  for (const char* name : {"../b", "b/c", ".b", "'b c'", "'b;c'", "'$(b)'", "-b", "b\xc3\xbc", "''"})
    refused(cat("{name: ", name, "}"), {"entry 2", "name"});
  refused(cat("{name: ", std::string(101, 'b'), "}"), {"no good name for a folder"});
  refused("{name: b, set: {train.lr_init: 1}}", {"entry 2", "it sets train.lr_init", "share"});
  refused("{name: b, set: {model.ctx_len: 8}}", {"it sets model.ctx_len", "share"});
  refused("{name: b, set: {model.vocab_size: 8}}", {"it sets model.vocab_size"});
  refused("{name: b, set: {model.tmix: x060, model: {tmix: x052}}}", {"mine.yaml:3: tmix stands twice"});
  refused("{name: b, set: [model.tmix]}", {"set is no section"});
  refused("{name: b, set: {model.tmix: [x060]}}", {"model.tmix is a list"});
  const std::string one = "variants: [{name: a}]\n";
  expect_refused({"mine.yaml:3: match is a list", hint}, [&] { read(one + "seeds: [1]\nmatch: [none]\n"); });
  expect_refused({"mine.yaml:2", "there is no vraiants", hint}, [&] { read("seeds: [1]\nvraiants: []\n"); });
  expect_refused({"mine.yaml", "no variants"}, [&] { read("variants: []\nseeds: [1]\n"); });
  expect_refused({"mine.yaml", "no seeds"}, [&] { read(one); });
  expect_refused({"mine.yaml:2", "seeds: entry 3", "the seed 1 comes twice"},
                 [&] { read(one + "seeds: [1, 2, 1]\n"); });
  expect_refused({"\"-1\" is no seed"}, [&] { read(one + "seeds: [-1]\n"); });
  expect_refused({"\"x\" is no seed"}, [&] { read(one + "seeds: [x]\n"); });
  expect_refused({"seeds is no list"}, [&] { read(one + "seeds: 1\n"); });
  expect_refused({"match is \"param\"", "none, params, flops"}, [&] { read(one + "seeds: [1]\nmatch: param\n"); });
  expect_refused({"the seed 2 comes twice"}, [] { seeds_of("2,3,2"); });
  expect_refused({"\"\" is no seed"}, [] { seeds_of("2,"); });
  expect_refused({"\"\" is no seed"}, [] { seeds_of("2, "); });
  expect_refused({"\"2 3\" is no seed"}, [] { seeds_of("2 3"); });
  EXPECT_EQ(seeds_of("7,0"), (std::vector<int64_t>{7, 0}));
  EXPECT_EQ(seeds_of(" 7, 0,\t12 "), (std::vector<int64_t>{7, 0, 12}));
}

TEST_F(Ablations, AVariantThatCannotBeIsNamed) {
  const Ablation a = read("variants: [{name: fine}, {name: odd, set: {model.tmix: nomix}}]\nseeds: [1]\n");
  expect_refused({"variant odd: model.tmix is \"nomix\""}, [&] { plan_variants(a, base("L6D768minipile.yaml")); });
  const Ablation b = read("variants: [{name: odd, set: {model.tmxi: x060}}]\nseeds: [1]\n");
  expect_refused({"variant odd: ", "mine.yaml:1", "model.tmxi"},
                 [&] { plan_variants(b, base("L6D768minipile.yaml")); });
}

// Each run would write its parameters and end.
TEST_F(Ablations, ABaseThatTrainsNothingIsRefused) {
  const Ablation a = read("variants: [{name: a}]\nseeds: [1]\n");
  ConfigParts parts = base("L6D768minipile.yaml");
  parts.settings.push_back({.path = "train.train_stage", .text = "1"});
  expect_refused({"train.train_stage is 1", "trains nothing", "--train.train_stage 0"},
                 [&] { plan_variants(a, parts); });
}

// The sizes that the published code has (reference, worked out from it), and what they cache.
TEST_F(Ablations, ThePublishedRowsHaveThePublishedSizes) {
  const auto sizes = [&](const std::string& file, const std::string& size) {
    std::map<std::string, std::pair<int64_t, double>> all;
    for (const PlannedVariant& v : plan_variants(read_ablation(kConfigs + "ablations/" + file), base(size))) {
      all[v.name] = {v.parameters, v.cache_bytes};
      EXPECT_GT(v.flops_per_token, 5.9 * (v.parameters - 65536 * v.config.model.n_embd)) << v.name << ": six a weight";
    }
    return all;
  };
  const auto large = sizes("published-1.5B.yaml", "L24D2048ctx2048minipile.yaml");
  EXPECT_EQ(large, (std::map<std::string, std::pair<int64_t, double>>{{"llama", {1'473'454'080, 196'608}},
                                                                      {"finch", {1'599'873'024, 0}},
                                                                      {"goldfinch", {1'445'257'216, 258}},
                                                                      {"goldfinch_1to1", {1'453'121'536, 4098}}}));
  auto rows = sizes("published-L12.yaml", "L12D768ctx1024minipile.yaml");
  EXPECT_EQ(rows.size(), 11u);
  for (const auto& [name, parameters, cache] : {std::tuple("finch", 196'955'136, 0.0),
                                                {"finchc2", 191'056'896, 0.0},
                                                {"llama", 185'637'888, 36'864.0},
                                                {"gptalpha_rope", 187'536'384, 36'864.0},
                                                {"goldfinch_1_3", 186'617'856, 98.0},
                                                {"goldfinch_1_3_rope", 186'617'856, 98.0},
                                                {"goldfinch_1_2", 184'066'560, 98.0},
                                                {"goldfinch_1_6", 189'169'152, 98.0},
                                                {"finchc2_1_3_gptalpha", 189'883'392, 12'288.0}}) {
    EXPECT_EQ(rows.at(name).first, parameters) << name;
    EXPECT_EQ(rows.at(name).second, cache) << name;
  }
  EXPECT_EQ(sizes("small.yaml", "ablations/small_base.yaml").size(), 7u);
}

TEST_F(Ablations, MatchingScalesTheChannelMixers) {
  for (const auto& [file, size] : {std::pair("small.yaml", "ablations/small_base.yaml"),
                                   {"published-L12.yaml", "L12D768ctx1024minipile.yaml"},
                                   {"published-1.5B.yaml", "L24D2048ctx2048minipile.yaml"}})
    for (const auto match : {Ablation::Match::params, Ablation::Match::flops}) {
      SCOPED_TRACE(file);
      Ablation a = read_ablation(cat(kConfigs, "ablations/", file));
      a.match = match;
      const auto planned = plan_variants(a, base(size));
      const auto cost = [&](const PlannedVariant& v) {
        return match == Ablation::Match::params ? static_cast<double>(v.parameters) : v.flops_per_token;
      };
      // llama's width is its own, so wherever it stands it is what the others are matched to.
      const PlannedVariant& llama = *std::ranges::find(planned, "llama", &PlannedVariant::name);
      const ModelConfig& m = llama.config.model;
      EXPECT_EQ(m.dim_ffn, plan_variants(read_ablation(cat(kConfigs, "ablations/", file)),
                                         base(size))[static_cast<size_t>(&llama - planned.data())]
                               .config.model.dim_ffn);
      // To half a unit: 32 more of dim_ffn in each layer, two products of n_embd, six operations a weight.
      const double unit =
          32.0 * 2 * static_cast<double>(m.n_embd * m.n_layer) * (match == Ablation::Match::params ? 1 : 6);
      for (const PlannedVariant& v : planned) EXPECT_LE(std::fabs(cost(v) - cost(llama)), 0.51 * unit) << v.name;
      EXPECT_NE(std::ranges::find(planned, "finch", &PlannedVariant::name)->config.model.dim_ffn, m.dim_ffn);
    }
}

TEST_F(Ablations, MatchingTakesTheFirstVariantWhereAllCanBeMatched) {
  const std::string all = "variants: [{name: a, set: {model.tmix: x060c2}}, {name: b, set: {model.tmix: x060}}";
  const auto widths = [&](const std::string& more) {
    std::vector<int64_t> w;
    for (const auto& v :
         plan_variants(read(all + more + "]\nseeds: [1]\nmatch: params\n"), base("L6D768minipile.yaml")))
      w.push_back(v.config.model.dim_ffn);
    return w;
  };
  EXPECT_EQ(widths("")[0], model("L6D768minipile.yaml", "finchc2.yaml").dim_ffn);
  EXPECT_NE(widths("")[1], model("L6D768minipile.yaml", "finch.yaml").dim_ffn);
  const std::string llama = ", {name: c, set: {model.tmix: llama, model.cmix: llama, model.rope: {}}}";
  EXPECT_NE(widths(llama)[0], widths("")[0]);
  expect_refused({"variant d: match wants", "as variant c has", "llama channel mixer has its own width"},
                 [&] { widths(llama + ", {name: d, set: {model.tmix: x060, model.cmix: llama}}"); });
  expect_refused({"variant d: it sets model.dim_ffn", "match", "equal to a"},
                 [&] { widths(", {name: d, set: {model.tmix: x060, model.dim_ffn: 512}}"); });
  const ModelConfig wide = model("L6D768minipile.yaml", "finch.yaml");
  PlannedVariant tiny{"tiny", {}, {}};
  tiny.config.model = wide;
  tiny.config.model.n_layer = 1;
  expect_refused({"as variant tiny has", "with the least dim_ffn, 32", "a larger variant tiny"},
                 [&] { matching_width(wide, tiny, Ablation::Match::params); });
}

TEST_F(Ablations, ARunIsWhatItsArgumentsSay) {
  const Ablation a = read("variants: [{name: v, set: {model.tmix: x060c2}}]\nseeds: [1, 2]\n");
  const ConfigParts parts = base("L6D768minipile.yaml");
  const auto planned = plan_variants(a, parts);
  const AblationRun run = run_of(a, planned, 0, 2, parts);
  EXPECT_EQ(run_folder(run.config), std::filesystem::path("out/mine/v-s2"));
  EXPECT_EQ(run.config.train.seed_everything, 2);
  std::vector<std::filesystem::path> files;
  std::vector<Setting> settings;
  for (size_t i = 0; i < run.arguments.size(); ++i) {
    if (run.arguments[i] == "-c") {
      files.emplace_back(run.arguments[++i]);
      continue;
    }
    const size_t equals = run.arguments[i].find('=');
    settings.push_back({.path = run.arguments[i].substr(2, equals - 2), .text = run.arguments[i].substr(equals + 1)});
  }
  Config same = load_config(files, settings);
  resolve(same);
  EXPECT_EQ(to_yaml(same), to_yaml(run.config));
}

TEST(PeakMemory, IsNotReadFromAPipe) {
  const TempFolder folder;
  ASSERT_EQ(mkfifo((folder / "peak_bytes.txt").c_str(), 0600), 0);
  expect_refused({"peak_bytes.txt is not a regular file"}, [&] { note_peak(folder.path(), 1); });
}

TEST(Spreads, AreThoseOfASample) {
  EXPECT_EQ(spread_of({}).count, 0);
  const std::vector<double> one{2}, three{1, 2, 6};
  EXPECT_EQ(spread_of(one).mean, 2);
  EXPECT_FALSE(spread_of(one).deviation);
  EXPECT_EQ(spread_of(three).mean, 3);
  EXPECT_DOUBLE_EQ(*spread_of(three).deviation, std::sqrt(7.0));  // (4 + 1 + 9) / 2
}

}  // namespace
}  // namespace gf
