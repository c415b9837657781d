// SPDX-License-Identifier: Apache-2.0
// What is frozen takes no gradient, and changes no bit of the others' gradients.
#include <gtest/gtest.h>

#include "base/random.h"
#include "support/bits.h"
#include "support/small_model.h"

namespace gf {
namespace {

struct Model {
  Model(const ModelConfig& config, const TuningRule& rule)
      : layers(config, layout_of(config), std::make_shared<ParameterStore>(ParameterStore::kAlign, rule)) {
    layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::zeroed);
    fill_hashed(layers.parameters());
  }
  LayerStack layers;
};

// Of the model's parameters about every third, another third for each seed.
TuningRule some_frozen(uint64_t seed) {
  return [seed](std::string_view name) { return Tuning{Random(seed, name).bits(0) % 3 == 0, 1}; };
}

void expect_same_gradients(const ModelConfig& config, const TuningRule& rule, const RunOptions& options) {
  const Model whole(config, {}), part(config, rule);
  const Batch batch = hashed_batch(2, 9, config.vocab_size);
  run_model(whole.layers, batch, options);
  const RunResult result = run_model(part.layers, batch, options);
  EXPECT_EQ(result.left, 0u);
  int64_t frozen = 0;
  for (const auto& p : part.layers.parameters().all()) {
    if (p->frozen()) {
      EXPECT_FALSE(p->grad()) << p->name();
      ++frozen;
    } else {
      EXPECT_TRUE(same_bits(p->grad(), whole.layers.parameters().find(p->name())->grad())) << p->name();
    }
  }
  EXPECT_GT(frozen, 0);
}

class Frozen : public testing::TestWithParam<std::string_view> {};

TEST_P(Frozen, TheOthersGradientsKeepTheirBits) {
  for (const char* channel_mix : {"x060", "llama"})
    for (uint64_t seed = 1; seed <= 4; ++seed)
      for (const RunOptions& options :
           {RunOptions{}, RunOptions{.recompute = true}, RunOptions{.weights = WeightGradients::later}}) {
        SCOPED_TRACE(cat(channel_mix, " seed ", seed, options.recompute ? " recompute" : ""));
        expect_same_gradients(small_config_with(GetParam(), channel_mix), some_frozen(seed), options);
      }
}

INSTANTIATE_TEST_SUITE_P(Of, Frozen, testing::ValuesIn(known_time_mixes()),
                         [](const auto& test) { return std::string(test.param); });

// Below the lowest layer that trains anything nothing is kept for a backward pass, with recompute or without.
TEST(FrozenLayers, AreToldApart) {
  const ModelConfig config = small_config("x060c2", "x060", "gold");
  const auto trains = [&](const TuningRule& rule) { return Model(config, rule).layers.trains(); };
  const TuningRule lowest = [](std::string_view name) { return Tuning{name.starts_with("blocks.0."), 1}; };
  EXPECT_EQ(layers_that_train(config, {}), trains({}));
  EXPECT_EQ(layers_that_train(config, lowest), trains(lowest));
  EXPECT_NE(layers_that_train(config, lowest), trains({}));
}

TEST(FrozenLayers, KeepNothing) {
  const ModelConfig config = small_config("x060c2", "x060", "gold");
  const auto upper = [](std::string_view name) {
    return Tuning{name.starts_with("emb") || name.starts_with("blocks.0") || name.starts_with("blocks.1"), 1};
  };
  const auto head = [](std::string_view name) { return Tuning{!name.starts_with("head"), 1}; };
  const Batch batch = hashed_batch(2, 9, config.vocab_size);
  for (const bool recompute : {false, true}) {
    const auto peak = [&](const TuningRule& rule) {
      return run_model(Model(config, rule).layers, batch, {.recompute = recompute}).forward_peak;
    };
    EXPECT_LT(peak(upper), peak({}));
    EXPECT_LT(peak(head), peak(upper));
  }
}

// Which layers have a backward pass at all: see ParameterHooks.
TEST(FrozenLayers, AreNotGoneBackThrough) {
  class Told final : public ParameterHooks {
   public:
    void before_use(const LayerRange&) override { ++uses; }
    void gradients_done(const LayerRange&) override { ++done; }
    int uses = 0, done = 0;
  };
  const ModelConfig config = small_config("x060");
  const Batch batch = hashed_batch(1, 9, config.vocab_size);
  const auto layers = static_cast<int>(layout_of(config).size());
  for (const bool recompute : {false, true}) {
    const Model model(config, [](std::string_view name) { return Tuning{!name.starts_with("blocks.2.ffn"), 1}; });
    Told told;
    Arena arena(kCpu);
    Tape tape(arena);
    const Pass pass{batch, true};
    const Var x = model.layers.forward(tape, pass, {}, recompute, {}, &told).x_BTC;
    const Var loss = model.layers.loss(tape, pass, x, &told).loss;
    EXPECT_EQ(told.uses, layers);
    tape.backward({{loss, Tensor::of<float>({1}, {1})}});
    EXPECT_EQ(told.done, 3) << "the head and two blocks";
    EXPECT_EQ(told.uses, layers + 3);
  }
}

}  // namespace
}  // namespace gf
