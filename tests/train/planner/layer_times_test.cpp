// SPDX-License-Identifier: Apache-2.0
#include "train/planner/layer_times.h"

#include <gtest/gtest.h>

#include "parallel/partition.h"
#include "support/expect_error.h"

namespace gf {
namespace {

Config config_of(const std::string& lower, const std::string& upper, bool recompute = false) {
  Config c;
  c.model.tmix = lower, c.model.tmix2 = upper, c.model.n_layer = 6, c.model.n_embd = 64, c.model.head_size = 16;
  c.model.ctx_len = 32, c.model.vocab_size = 257;
  c.train.micro_bsz = 2, c.train.grad_cp = recompute;
  resolve(c);
  return c;
}

// Memory so fast that only operations count, and the other way round.
const RankSpeed kSlowProducts{1e9, 0.5, 1e9, 1e30}, kSlowMemory{1e30, 1, 1e9, 1e9};

TEST(LayerTimes, ProductsTakeTheirOperations) {
  const Config c = config_of("x060c2", "gold");
  const LayerTimes t = reckoned_times(c, kSlowProducts);
  const double tokens = 2 * 32, flops = 0.5e9;
  const double compress = 2 * tokens * 64 * 4 / flops, expand = 2 * tokens * (64 + 4) * 64 / flops;
  for (const auto& [times, want] : {std::pair(t.key_compress, compress), {t.key_expand, expand}}) {
    EXPECT_DOUBLE_EQ(times.forward, want);
    EXPECT_DOUBLE_EQ(times.backward_input, want);
    EXPECT_DOUBLE_EQ(times.backward_weight, want);
  }
  EXPECT_LT(t.embed.all(), 1e-20) << "no product";
  // The head takes its gradients in its forward pass: three products.
  EXPECT_DOUBLE_EQ(t.head.all(), 3 * 2 * tokens * 64 * 257 / flops);
  // Blocks: at least the products of the fixed measure, which counts 6 operations a weight and token.
  double weights = 0;
  const LayerStack block(c.model, {layout_of(c.model)[1]});
  for (const auto& p : block.parameters().all())
    if (p->spec().role == Role::matrix) weights += static_cast<double>(p->shape().numel());
  EXPECT_GT(t.lower.all(), 6 * weights * tokens / flops);
  EXPECT_LT(t.lower.all(), 2 * 6 * weights * tokens / flops);
}

TEST(LayerTimes, TheRestTakesItsBytes) {
  const Config c = config_of("x060c2", "gold");
  const LayerTimes t = reckoned_times(c, kSlowMemory);
  const double stream = 4.0 * 2 * 32 * 64 / 1e9;
  EXPECT_GT(t.embed.forward, 2 * stream) << "written, and written again after its norm";
  EXPECT_GT(t.lower.forward, 10 * stream);
  EXPECT_GT(t.lower.backward_input, t.lower.forward);
  // Where both count, an op takes the longer of the two: less than their sum, no less than either.
  const RankSpeed both{1e9, 1, 1e9, 1e9};
  const RankSpeed products{1e9, 1, 1e9, 1e30};
  const double together = reckoned_times(c, both).lower.all(), of_products = reckoned_times(c, products).lower.all();
  EXPECT_GE(together, of_products);
  EXPECT_GE(together, t.lower.all());
  EXPECT_LT(together, of_products + t.lower.all());
}

constexpr double kRounding = 1e-12;  // of sums of some hundred terms

// In any build. What reads and writes activations and values takes half as long; products take what they take.
TEST(LayerTimes, InBf16TheRestTakesHalfItsBytes) {
  for (const auto& [lower, upper] : {std::pair("x060c2", "gold"), {"llama", ""}, {"x060", ""}}) {
    SCOPED_TRACE(lower);
    Config c = config_of(lower, upper);
    c.train.accelerator.emplace("gpu");
    const auto in = [&](const char* precision, const RankSpeed& rank) {
      c.train.precision.emplace(precision);
      return reckoned_times(c, rank).lower;
    };
    const PassSeconds wide = in("32", kSlowMemory), narrow = in("bf16", kSlowMemory);
    EXPECT_DOUBLE_EQ(narrow.forward, wide.forward / 2);
    // Gradients of weights are summed in float32.
    EXPECT_GE(narrow.backward(), (0.5 - kRounding) * wide.backward());
    EXPECT_LT(narrow.backward(), 0.8 * wide.backward());
    EXPECT_DOUBLE_EQ(in("bf16", kSlowProducts).all(), in("32", kSlowProducts).all());
  }
}

TEST(LayerTimes, RecomputeRunsBlocksAgain) {
  const LayerTimes once = reckoned_times(config_of("x060", ""), kSlowProducts),
                   again = reckoned_times(config_of("x060", "", true), kSlowProducts);
  EXPECT_DOUBLE_EQ(again.lower.forward, once.lower.forward);
  EXPECT_DOUBLE_EQ(again.lower.backward_input, once.lower.backward_input + once.lower.forward);
  EXPECT_DOUBLE_EQ(again.lower.backward_weight, once.lower.backward_weight);
  EXPECT_DOUBLE_EQ(again.head.all(), once.head.all()) << "the head is no block";
}

TEST(LayerTimes, MeasuredOfWhatThereIs) {
  const auto measured = [](const Config& c) { return measure_layers(c, 0, size_t{1} << 40); };
  const LayerMeasurement gold = measured(config_of("x060c2", "gold"));
  for (const PassSeconds& t : {gold.layers.embed, gold.layers.lower, gold.layers.key_compress, gold.layers.key_expand,
                               gold.layers.upper, gold.layers.head})
    EXPECT_GT(t.forward, 0);
  EXPECT_GT(gold.layers.lower.backward_input, 0);
  EXPECT_GT(gold.layers.lower.backward_weight, 0);
  EXPECT_GT(gold.update, 0);
  // A block is a hundred times the work of a compressed key.
  EXPECT_GT(gold.layers.lower.all(), gold.layers.key_compress.all());
  const LayerMeasurement llama = measured(config_of("llama", "", true));
  EXPECT_GT(llama.layers.lower.backward_input, 0);
  EXPECT_EQ(llama.layers.upper.all(), 0);
  EXPECT_EQ(llama.layers.key_expand.all(), 0);
  const Config c = config_of("x060", "");
  expect_refused({"measuring layers takes", "there are 1.00 kB", "--train.grad_cp 1"},
                 [&] { measure_layers(c, 0, 1000); });
}

TEST(LayerTimes, SamplesHaveSomeOfEachKind) {
  const auto names = [](const ModelConfig& c, int64_t most) {
    std::string text;
    for (const LayerSpec& s : sample_layers(c, most)) text += s.name() + " ";
    return text;
  };
  const ModelConfig gold = config_of("x060c2", "gold").model;
  EXPECT_EQ(names(gold, 1), "embed blocks.0 key_compress key_expand blocks.4 head ");
  EXPECT_EQ(names(gold, 3), "embed blocks.0 blocks.1 blocks.2 key_compress key_expand blocks.4 blocks.5 head ");
  EXPECT_EQ(names(config_of("llama", "").model, 2), "embed blocks.0 blocks.1 head ");
}

TEST(LayerTimes, MeasuredOnesAreTakenWhereTheyAreTrue) {
  const Config c = config_of("x060c2", "gold");
  Hardware h;
  h.rank = kSlowProducts;
  EXPECT_EQ(why_not_measured(h, c), "no layers were measured there");
  h.measured.emplace();
  h.measured->model = c.model, h.measured->micro_bsz = 2;
  h.measured->layers.lower.forward = 42;
  EXPECT_EQ(why_not_measured(h, c), "");
  EXPECT_EQ(times_on(h, c).lower.forward, 42);
  Config other = c;
  other.model.dropout = 0.1;
  EXPECT_EQ(why_not_measured(h, other), "") << "may change on the way";
  other = c;
  other.train.micro_bsz = 4;
  EXPECT_EQ(why_not_measured(h, other), "they were measured with train.micro_bsz 2, not 4");
  EXPECT_EQ(times_on(h, other).lower.forward, reckoned_times(other, h.rank).lower.forward);
  other = c;
  other.train.grad_cp = true;
  EXPECT_EQ(why_not_measured(h, other), "they were measured with train.grad_cp 0, not 1");
  other = c;
  other.model.n_embd = 128;
  EXPECT_EQ(why_not_measured(h, other), "they were measured with model.n_embd 64, not 128");
  other = c;
  other.train.accelerator.emplace("gpu");
  EXPECT_EQ(why_not_measured(h, other), "they were measured on a CPU");
}

TEST(LayerTimes, CostsAreOfEachLayer) {
  const ModelConfig c = config_of("x060c2", "gold").model;
  Config whole;
  whole.model = c;
  const std::vector<double> fixed = layer_costs(c), there_and_back = costs_of(whole, fixed_times(c));
  ASSERT_EQ(fixed.size(), there_and_back.size());
  for (size_t i = 0; i < fixed.size(); ++i) EXPECT_NEAR(there_and_back[i], fixed[i], 1e-12 * fixed[i]);
}

}  // namespace
}  // namespace gf
