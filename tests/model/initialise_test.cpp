// SPDX-License-Identifier: Apache-2.0
#include "model/initialise.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>

#include "model/layer_stack.h"
#include "support/bits.h"
#include "support/expect_error.h"
#include "support/small_model.h"
#include "support/threads.h"

namespace gf {
namespace {

// L3 D32: one Finch-C2 and two GOLD layers, or three of a kind.
ModelConfig config(const std::string& tmix, const std::string& upper = "") {
  ModelConfig c = small_config(tmix, tmix == "x052" ? "x052" : "x060", upper);
  c.n_layer = 3;
  return c;
}

class Fresh {
 public:
  explicit Fresh(const ModelConfig& c, uint64_t seed = 1337) : layers_(c) {
    layers_.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    initialise(layers_.parameters(), seed);
  }
  const Tensor& operator[](const std::string& name) const {
    const Parameter* p = layers_.parameters().find(name);
    GF_CHECK(p, "no parameter ", name);
    return p->value();
  }
  float at(const std::string& name, int64_t i) const { return (*this)[name].data<float>()[i]; }
  const ParameterStore& store() const { return layers_.parameters(); }

 private:
  LayerStack layers_;
};

void expect_all(const Fresh& m, const std::string& name, double want) {
  for (int64_t i = 0; i < m[name].numel(); ++i)
    ASSERT_EQ(m.at(name, i), static_cast<float>(want)) << name << " at " << i;
}

// A published number to float32's seven digits.
void expect_is(double got, double want) {
  EXPECT_NEAR(got, want, 1e-6 * (std::fabs(want) + 0.1));
}

// reference: RWKV-6's published initialisation, with r0 = layer / 2 and r1 = 1 - layer / 3 here; the numbers on
// the right were worked out apart from the program.
TEST(Initialise, TokenShiftFactors) {
  const Fresh m(config("x060"));
  // layer 0: r0 = 0, r1 = 1. 1 - (i / 32)^r1.
  expect_is(m.at("blocks.0.att.time_maa_x", 0), 1);
  expect_is(m.at("blocks.0.att.time_maa_k", 8), 0.75);
  expect_is(m.at("blocks.0.att.time_maa_w", 31), 0.03125);
  expect_is(m.at("blocks.0.att.time_maa_r", 8), 0.5);   // half the power: 1 - sqrt(1/4)
  expect_is(m.at("blocks.0.att.time_maa_g", 2), 0.75);  // 1 - sqrt(1/16)
  expect_is(m.at("blocks.0.att.time_maa_v", 8), 0.75);
  // layer 1: r0 = 1/2, r1 = 2/3. (1/8)^(2/3) = 1/4.
  expect_is(m.at("blocks.1.att.time_maa_k", 4), 0.75);
  expect_is(m.at("blocks.1.att.time_maa_v", 4), 0.6);  // 1 - (1/4 + 0.3 / 2)
  expect_is(m.at("blocks.1.att.time_maa_r", 4), 0.5);  // (1/8)^(1/3) = 1/2
  // layer 2: r0 = 1, r1 = 1/3. (1/8)^(1/3) = 1/2.
  expect_is(m.at("blocks.2.att.time_maa_v", 4), 0.2);
  expect_is(m.at("blocks.2.ffn.time_maa_k", 4), 0.5);
  expect_is(m.at("blocks.2.ffn.time_maa_r", 4), 0.5);  // the channel mixer's has the full power
}

TEST(Initialise, EagleMixesTowardsTheCurrentToken) {
  const Fresh m(config("x052"));
  expect_is(m.at("blocks.1.att.time_mix_k", 4), 0.25);
  expect_is(m.at("blocks.1.att.time_mix_v", 4), 0.4);
  expect_is(m.at("blocks.1.att.time_mix_r", 4), 0.5);
  expect_is(m.at("blocks.1.att.time_mix_g", 4), 0.5);
  expect_is(m.at("blocks.2.ffn.time_mix_k", 4), 0.5);
  EXPECT_EQ(m["blocks.0.att.time_decay"].shape(), (Shape{2, 16}));
}

TEST(Initialise, DecayAndBonus) {
  const Fresh m(config("x060"));
  // -6 + 5 (n / 31)^(0.7 + 1.3 r0)
  expect_is(m.at("blocks.0.att.time_decay", 0), -6);
  expect_is(m.at("blocks.0.att.time_decay", 31), -1);
  expect_is(m.at("blocks.0.att.time_decay", 10), -3.73526799);  // (10/31)^0.7 = 0.45294640
  expect_is(m.at("blocks.1.att.time_decay", 10), -4.91449528);  // (10/31)^1.35 = 0.21710094
  expect_is(m.at("blocks.2.att.time_decay", 10), -5.47970864);  // (10/31)^2 = 100/961
  // r0 (1 - n / 31) + ((n + 1) mod 3 - 1) / 10
  expect_is(m.at("blocks.0.att.time_faaaa", 0), 0);
  expect_is(m.at("blocks.0.att.time_faaaa", 1), 0.1);
  expect_is(m.at("blocks.0.att.time_faaaa", 2), -0.1);
  expect_is(m.at("blocks.2.att.time_faaaa", 0), 1);
  expect_is(m.at("blocks.2.att.time_faaaa", 1), 1.06774194);  // 30/31 + 0.1
  expect_is(m.at("blocks.1.att.time_faaaa", 31), 0.1);        // (32 mod 3 - 1) / 10
}

TEST(Initialise, NormsBeginAtOneAndTheMixersLastBelow) {
  const Fresh m(config("x060c2", "gold"));
  for (const char* name : {"blocks.0.ln0", "blocks.0.ln1", "blocks.2.ln2", "blocks.2.att.ln_q", "blocks.2.att.ln_k",
                           "blocks.2.att.ln_v", "ln_out"}) {
    expect_all(m, std::string(name) + ".weight", 1);
    expect_all(m, std::string(name) + ".bias", 0);
  }
  expect_is(m.at("blocks.0.att.ln_x.weight", 5), 0.46346306);  // (1/3)^0.7
  expect_is(m.at("blocks.1.att.ln_x.weight", 5), 0.75289796);  // (2/3)^0.7
  expect_is(m.at("blocks.2.att.ln_x.weight", 5), 1);
}

TEST(Initialise, WhatIsPublishedAsZeroIs) {
  const Fresh m(config("x060c2", "gold"));
  for (const char* name : {"blocks.0.att.output.weight", "blocks.2.att.output.weight", "blocks.0.ffn.value.weight",
                           "blocks.0.ffn.receptance.weight", "blocks.0.att.time_maa_w1", "blocks.0.att.time_decay_w1",
                           "blocks.0.att.time_value2_w1", "blocks.2.att.time_maa_q_w1", "blocks.2.att.time_maa_kv_w1",
                           "blocks.2.att.time_key_w1", "blocks.2.att.time_value_w1"})
    expect_all(m, name, 0);
  const Fresh llama(small_config("llama", "llama"));
  for (const char* name : {"blocks.0.att.wo.weight", "blocks.0.ffn.w2.weight"})
    EXPECT_GT(sum_of_squares(llama[name]), 1) << name << " does not begin at zero";
}

TEST(Initialise, UniformWithinItsBound) {
  const Fresh m(config("x060"));
  const auto check = [&](const std::string& name, double bound) {
    const Tensor& t = m[name];
    double largest = 0, sum = 0;
    for (int64_t i = 0; i < t.numel(); ++i) {
      largest = std::max(largest, std::fabs(static_cast<double>(m.at(name, i))));
      sum += m.at(name, i);
    }
    const auto n = static_cast<double>(t.numel());
    EXPECT_LE(largest, bound * 1.0000001) << name;
    EXPECT_GT(largest, bound * 0.95) << name;
    EXPECT_LT(std::fabs(sum / n), 5 * bound / std::sqrt(3 * n)) << name << ": five standard errors of the mean";
    EXPECT_NEAR(std::sqrt(sum_of_squares(t) / n), bound / std::sqrt(3), 0.1 * bound) << name;
  };
  check("emb.weight", 1e-4);
  check("blocks.0.att.time_maa_w2", 0.01);
  check("blocks.1.att.time_decay_w2", 0.01);
}

// The rows, or where there are fewer the columns, are orthogonal and of length `gain`.
void expect_orthogonal(const std::string& name, const Tensor& w, double gain) {
  const int64_t rows = w.size(0), cols = w.size(1), n = std::min(rows, cols), length = std::max(rows, cols);
  const auto at = [&](int64_t i, int64_t k) -> double {
    return w.data<float>()[rows <= cols ? i * cols + k : k * cols + i];
  };
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double dot = 0;
      for (int64_t k = 0; k < length; ++k) dot += at(i, k) * at(j, k);
      // A Householder QR in float32 is orthogonal to a few roundings (6e-8) for each of its n reflections.
      ASSERT_NEAR(dot / (gain * gain), i == j, 6e-8 * 3 * static_cast<double>(n)) << name << " " << i << " " << j;
    }
  }
}

TEST(Initialise, MatricesAreOrthogonal) {
  const Fresh m(config("x060c2", "gold"));
  for (const char* name : {"blocks.0.att.receptance.weight", "blocks.0.att.value.weight", "blocks.2.att.query.weight",
                           "blocks.0.ffn.key.weight", "w_kv_cache_a.weight", "w_kv_cache_b.weight"})
    expect_orthogonal(name, m[name], 1);
  EXPECT_EQ(m["blocks.0.ffn.key.weight"].shape(), (Shape{96, 32})) << "tall";
  EXPECT_EQ(m["w_kv_cache_b.weight"].shape(), (Shape{32, 34})) << "wide";
  expect_orthogonal("key", m["blocks.0.att.key.weight"], 0.1);
  expect_orthogonal("head", m["head.weight"], 0.5 * std::sqrt(33.0 / 32));
  expect_orthogonal("gate", Fresh(config("x060"))["blocks.0.att.gate.weight"], 0.1);
  ModelConfig small_vocabulary = config("x060");
  small_vocabulary.vocab_size = 20;
  expect_orthogonal("head", Fresh(small_vocabulary)["head.weight"], 0.5);
}

TEST(Initialise, OrthogonalMatricesAreSpreadEvenly) {
  // The first element of a uniform orthogonal 32 x 32 matrix has mean 0 and variance 1/32 over the seeds.
  double sum = 0, squares = 0;
  constexpr int kSeeds = 400;
  for (int seed = 0; seed < kSeeds; ++seed) {
    ParameterStore store;
    const Parameter& p = store.add("w", {{32, 32}, Role::matrix, Init::orthogonal(1)});
    store.allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    initialise(store, static_cast<uint64_t>(seed));
    const double x = p.value().data<float>()[0];
    sum += x, squares += x * x;
  }
  EXPECT_LT(std::fabs(sum / kSeeds), 5 * std::sqrt(1.0 / 32 / kSeeds)) << "five standard errors";
  EXPECT_NEAR(squares / kSeeds * 32, 1, 5 * std::sqrt(2.0 / kSeeds)) << "five standard errors of a variance";
}

TEST(Initialise, EachValueFollowsFromSeedNameAndIndex) {
  const ModelConfig c = config("x060c2", "gold");
  const Fresh whole(c), again(c), other(c, 1338);
  EXPECT_TRUE(same_bits(whole.store().values(), again.store().values()));
  EXPECT_FALSE(same_bits(whole["emb.weight"], other["emb.weight"]));
  EXPECT_FALSE(same_bits(whole["head.weight"], other["head.weight"]));
  EXPECT_FALSE(same_bits(whole["blocks.0.att.value.weight"], whole["blocks.0.att.receptance.weight"]))
      << "of one shape";
  // Any stage makes the values that the whole model has.
  const auto layers = layout_of(c);
  for (size_t begin = 0; begin < layers.size(); ++begin) {
    LayerStack stage(c, stage_layers(layers, begin, layers.size()));
    stage.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    initialise(stage.parameters(), 1337);
    for (const auto& p : stage.parameters().all()) EXPECT_TRUE(same_bits(p->value(), whole[p->name()])) << p->name();
  }
  const Threads one(1);
  EXPECT_TRUE(same_bits(Fresh(c).store().values(), whole.store().values()));
}

TEST(Initialise, IsForFloats) {
  ParameterStore store;
  store.add("a", {{2}, Role::vector, Init::constant(1)});
  store.allocate(kCpu, DType::f64, ParameterStore::Gradients::none);
  expect_error(Exit::failed, {"f32"}, [&] { initialise(store, 1); });
}

TEST(Initialise, TellsOfEachParameter) {
  LayerStack layers(config("x060"));
  layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  std::atomic<size_t> told = 0;
  initialise(layers.parameters(), 1, [&](const Parameter& p, const Tensor& numbers) {
    ++told;
    EXPECT_EQ(numbers.raw(), p.value().raw()) << "in its place";
  });
  EXPECT_EQ(told, layers.parameters().all().size());
}

}  // namespace
}  // namespace gf
