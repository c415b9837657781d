// SPDX-License-Identifier: Apache-2.0
#include "train/partial_load.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "parallel/rank_model.h"

namespace gf {
namespace {

using Lines = std::vector<std::string>;

ModelConfig model(const std::string& tmix, int64_t layers, const std::string& tmix2 = "", double ratio = 3) {
  ModelConfig c;
  c.tmix = tmix, c.tmix2 = tmix2, c.inv_other_layer_ratio = ratio;
  c.n_layer = layers, c.n_embd = 32, c.head_size = 16, c.vocab_size = 65;
  c.resolve();
  c.check();
  return c;
}

// Names are all that is asked for.
class Weights final : public TensorSource {
 public:
  explicit Weights(const std::vector<std::string>& names) {
    std::vector<Entry> entries;
    for (const std::string& name : names) entries.push_back({cat(kModelPrefix, name), DType::f32, {1}});
    set_entries(std::move(entries));
  }
  explicit Weights(const ModelConfig& c) : Weights(parameter_names(c)) {}

 private:
  void fill(std::span<const ShardView>) const override {}
  std::string label() const override { return "x"; }
};

// 24 layers of Finch and four of GOLD over them.
TEST(PartialLoad, ThePublishedUpgradeDropsNothing) {
  const Weights finch(model("x060", 24));
  const ModelConfig upgrade = model("x060", 28, "gold", 7);
  EXPECT_EQ(upgrade.first_upper(), 24);
  EXPECT_EQ(taken_from(finch, upgrade), ": 678 of 808 tensors, fresh ones for those it lacks");
  EXPECT_EQ(dropped_mixers(finch, upgrade), Lines{});
}

TEST(PartialLoad, AMixerThatIsDroppedIsNamed) {
  const Weights finch(model("x060", 24));
  const ModelConfig five = model("x060", 28, "gold", 6);
  EXPECT_EQ(taken_from(finch, five),
            ": 665 of 812 tensors, fresh ones for those it lacks; 13 of its own are not in this model");
  EXPECT_EQ(dropped_mixers(finch, five),
            Lines{"blocks.23.att is gold now, and 13 tensors of the mixer that the checkpoint has there are dropped; "
                  "--model.inv_other_layer_ratio 7 has all 24 of its layers below the upper ones"});
  // In the place of the uppermost, as is meant there: no ratio would keep them.
  EXPECT_EQ(dropped_mixers(finch, model("x060", 24, "gold", 3)),
            Lines{"blocks.16.att to blocks.23.att are gold now, and 104 tensors of the mixers that the checkpoint has "
                  "there are dropped"});
}

// A quotient that is no number of two digits, or that falls short of its layer by rounding.
TEST(PartialLoad, TheRatioThatIsToldKeepsAllLayers) {
  for (int64_t layers = 2; layers < 40; ++layers)
    for (int64_t more = 1; more < layers; ++more) {
      SCOPED_TRACE(cat(layers, " and ", more));
      // The upper layers begin with the first one.
      const ModelConfig upgrade = model("x060", layers + more, "gold", 1.0 + 2.0 / static_cast<double>(layers + more));
      const Lines lines = dropped_mixers(Weights(Lines{cat("blocks.", layers - 1, ".att.time_decay")}), upgrade);
      ASSERT_EQ(lines.size(), 1u);
      const std::string option = "--model.inv_other_layer_ratio ";
      const size_t at = lines[0].find(option);
      ASSERT_NE(at, std::string::npos) << lines[0];
      EXPECT_EQ(model("x060", layers + more, "gold", std::stod(lines[0].substr(at + option.size()))).first_upper(),
                layers);
    }
}

// What is not at the place of a mixer, or is beyond the model, is only counted.
TEST(PartialLoad, OtherTensorsAreNoMixers) {
  const Weights odd({"emb.weight", "blocks.0.ln7.weight", "blocks.9.att.key.weight", "blocks.x.att.key.weight",
                     "blocks.9223372036854775807.att.a", "blocks.99999999999999999999.att.a", "blocks.0", "blocks.0.",
                     "blocks.-1.att.a"});
  EXPECT_EQ(dropped_mixers(odd, model("x060", 3)), Lines{});
  EXPECT_EQ(dropped_mixers(odd, model("x060", 3, "gold")), Lines{});
  EXPECT_NE(taken_from(odd, model("x060", 3)).find("; 8 of its own are not in this model"), std::string::npos);
  EXPECT_EQ(dropped_mixers(Weights(Lines{"blocks.1.ffn.gate.weight"}), model("x060", 3)),
            Lines{"blocks.1.ffn is x060 now, and 1 tensor of the mixer that the checkpoint has there is dropped"});
}

}  // namespace
}  // namespace gf
