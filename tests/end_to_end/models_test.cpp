// SPDX-License-Identifier: Apache-2.0
// Every published variant trains, every published config file is taken as it is, every key of the model has an effect.
#include <nlohmann/json.hpp>

#include <cmath>

#include "base/error.h"
#include "end_to_end/tiny_training.h"

namespace gf {
namespace {

double loss_of(const std::string& line) {
  return nlohmann::json::parse(line)["loss"];
}

struct Variant {
  const char* name;
  const char* config;
  Options options = {};
};

void PrintTo(const Variant& v, std::ostream* out) {
  *out << v.name;
}

class Overfit : public TinyTraining, public testing::WithParamInterface<Variant> {};

INSTANTIATE_TEST_SUITE_P(
    Of, Overfit,
    testing::Values(Variant{"finch", "finch"}, Variant{"finchb", "finch", {{"model.tmix", "x060b"}}},
                    Variant{"finchc2", "finchc2"}, Variant{"finchc2_no_one_minus_w", "finchc2_ablation_no_one_minus_w"},
                    Variant{"finchc2_no_v2", "finchc2_ablation_no_v2"}, Variant{"eagle", "eagle"},
                    Variant{"goldfinch", "goldfinch"}, Variant{"goldfinch_2", "goldfinch_ablation_gold_invratio_2"},
                    Variant{"goldfinch_6", "goldfinch_ablation_gold_invratio_6"},
                    Variant{"goldfinch_rope", "goldfinch_ablation_rope10k"},
                    Variant{"goldfinch_gptalpha", "goldfinch_ablation_gptalpha"},
                    Variant{"upgrade", "goldfinch_upgrade"}, Variant{"gptalpha", "gptalpha"},
                    Variant{"llama", "llama"}),
    [](const auto& test) { return test.param.name; });

TEST_P(Overfit, OneSequence) {
  configs_ = {GetParam().config};
  options_.insert(GetParam().options.begin(), GetParam().options.end());
  for (const auto& [key, value] : GetParam().options) options_[key] = value;
  // Samples begin at multiples of ctx_len: with that period, all of them are the same one. So few symbols that what
  // follows one depends on what was before it.
  const std::vector<uint16_t> period = random_tokens(16, 8);
  std::vector<uint16_t> tokens;
  for (int i = 0; i < 60; ++i) tokens.insert(tokens.end(), period.begin(), period.end());
  options_["train.data_file"] = data_set("one", tokens);
  options_["model.vocab_size"] = "9";
  options_["train.micro_bsz"] = "1";
  options_["train.max_steps"] = "400";
  options_["train.lr_init"] = "3e-3";
  options_["train.warmup_steps"] = "10";
  const Outcome outcome = trained();
  ASSERT_EQ(outcome.metrics.size(), 400u);
  EXPECT_LT(loss_of(outcome.metrics.back()), 0.05);
}

class Published : public TinyTraining {
 protected:
  // What a published file says and a tiny run on other data cannot take over.
  Published() {
    configs_.clear();
    options_["train.magic_prime"] = "0";
    options_["train.validation_data_file"] = data_set("validation", random_tokens(400, 65, 2));
    options_["train.micro_bsz"] = "1";
    options_["train.max_steps"] = "1";
  }
  void expect_trains(const std::string& size, const std::string& model) {
    SCOPED_TRACE(cat(size, " with ", model));
    configs_ = {size, model};
    const Outcome outcome = trained({{"train.proj_suffix", cat(size, model)}});
    ASSERT_EQ(outcome.metrics.size(), 1u);
    // Fresh parameters guess evenly among 65 tokens, nearly.
    EXPECT_NEAR(loss_of(outcome.metrics[0]), std::log(65), 0.5);
  }
};

TEST_F(Published, SizesAreTaken) {
  for (const char* size :
       {"L6D768minipile", "L12D768ctx1024minipile", "L24D2048ctx2048minipile", "L24D2048ctx4096minipile"})
    expect_trains(size, "goldfinch");
}

TEST_F(Published, ModelsAreTaken) {
  for (const char* model :
       {"eagle", "finch", "finchc2", "finchc2_ablation_no_one_minus_w", "finchc2_ablation_no_v2",
        "goldfinch_ablation_gold_invratio_2", "goldfinch_ablation_gold_invratio_6", "goldfinch_ablation_gptalpha",
        "goldfinch_ablation_rope10k", "goldfinch_upgrade", "gptalpha", "llama"})
    expect_trains("L6D768minipile", model);
}

struct Key {
  const char* config;
  const char* key;
  const char* value;
};

class Keys : public TinyTraining {};

TEST_F(Keys, OfTheModelTakeEffect) {
  options_["train.max_steps"] = "3";
  int count = 0;
  for (const Key& k : {Key{"goldfinch", "model.parallel", "1"}, Key{"goldfinch", "model.dropout", "0.1"},
                       Key{"goldfinch", "model.kv_cache_compression_ratio", "1"}, Key{"goldfinch", "model.brope", "on"},
                       Key{"goldfinch", "model.alibi", "on"}, Key{"goldfinch", "model.rope.rescale", "2"},
                       Key{"goldfinch", "model.dim_ffn", "64"}, Key{"goldfinch", "model.tmix2", "llama"},
                       Key{"goldfinch", "model.cmix2", "llama"}, Key{"finch", "model.dim_att", "64"},
                       Key{"finch", "model.head_size_divisor", "4"}, Key{"gptalpha", "model.rope.rebase", "4"},
                       Key{"llama", "model.rope.base", "500"}, Key{"eagle", "train.seed_everything", "7"},
                       Key{"finch", "train.layerwise_lr", "0"}, Key{"finch", "train.gradient_clip_val", "0"}}) {
    SCOPED_TRACE(cat(k.config, " with ", k.key, " ", k.value));
    configs_ = {k.config};
    const std::string plain = cat(k.config, "-plain"), suffix = cat(k.config, "-", ++count);
    if (!std::filesystem::exists(run(plain))) trained({{"train.proj_suffix", plain}});
    const Outcome changed = trained({{"train.proj_suffix", suffix}, {k.key, k.value}});
    ASSERT_EQ(changed.metrics.size(), 3u);
    EXPECT_NE(changed.metrics.back(), outcome(plain).metrics.back());
    EXPECT_LT(loss_of(changed.metrics.back()), 5);
  }
}

}  // namespace
}  // namespace gf
