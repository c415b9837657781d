// SPDX-License-Identifier: Apache-2.0
// What every time mixer meets together with every channel mixer, from the registries: a mixer that is added to its
// .def is tested here. Each stands in a small model of its own; gold above Finch-C2.
#include <gtest/gtest.h>

#include <cmath>

#include "support/bits.h"
#include "support/small_model.h"
#include "support/threads.h"

namespace gf {
namespace {

constexpr int64_t kVocab = 33;

// One thread has no others to wait for on a busy machine.
class OneThread : public testing::Test {
  Threads one_{1};
};

struct Model {
  explicit Model(const ModelConfig& config, DType dtype = DType::f32, Device device = kCpu) : layers(config) {
    layers.parameters().allocate(device, dtype, ParameterStore::Gradients::zeroed);
    if (device == kCpu) fill_hashed(layers.parameters());
  }
  LayerStack layers;
};

RunOptions options(bool recompute = false, WeightGradients weights = WeightGradients::now) {
  return {.recompute = recompute, .weights = weights, .loss_scale = 1.0 / 27, .pull = 1e-4};
}

void expect_same(const RunResult& got, const RunResult& want, const char* what) {
  EXPECT_TRUE(same_bits(got.loss, want.loss)) << what;
  EXPECT_TRUE(same_bits(got.grads, want.grads))
      << what << ": gradients differ by " << relative_difference(got.grads, want.grads);
}

using Names = std::tuple<std::string, std::string>;  // time mixer, channel mixer

std::string test_name(const testing::TestParamInfo<Names>& test) {
  return std::get<0>(test.param) + "_" + std::get<1>(test.param);
}

class Mixers : public OneThread, public testing::WithParamInterface<Names> {
 protected:
  ModelConfig config() const { return small_config_with(std::get<0>(GetParam()), std::get<1>(GetParam())); }
  bool has_bonus_without_effect() const { return this->config().has_time_mix("x060c2"); }
};

TEST_P(Mixers, NothingFlowsBackInTime) {
  const Model m(config());
  const Batch batch = hashed_batch(1, 9, kVocab);
  const Tensor before = clone(logits_of(m.layers, batch));
  for (const int64_t t : {8, 5, 1, 0}) {
    int32_t& token = batch.inputs_BT.data<int32_t>()[t];
    const int32_t old = token;
    token = (old + 1) % kVocab;
    const Tensor after = logits_of(m.layers, batch).view({9, kVocab});
    EXPECT_TRUE(same_bits(after.slice(0, t), before.view({9, kVocab}).slice(0, t))) << "token " << t;
    for (int64_t later = t; later < 9; ++later) {
      EXPECT_FALSE(same_bits(after.slice(later, later + 1), before.view({9, kVocab}).slice(later, later + 1)))
          << "token " << t << " is not seen at " << later;
    }
    token = old;
  }
}

TEST_P(Mixers, SequencesOfABatchAreApart) {
  const Model m(config());
  const Batch batch = hashed_batch(3, 9, kVocab);
  const Tensor together = clone(logits_of(m.layers, batch));
  for (int64_t b = 0; b < 3; ++b) {
    // A matrix product may take another kernel for another number of rows: sums of up to 112 products in another
    // order, a few roundings of 6e-8 for each of the dozen products on the way.
    EXPECT_LE(relative_difference(logits_of(m.layers, row_of(batch, b)), together.slice(b, b + 1)), 3e-6)
        << "sequence " << b;
    const Batch other = hashed_batch(3, 9, kVocab, 0);
    for (int64_t i = 0; i < 27; ++i)
      if (i / 9 != b) other.inputs_BT.data<int32_t>()[i] = 7;
    EXPECT_TRUE(same_bits(logits_of(m.layers, other).slice(b, b + 1), together.slice(b, b + 1)))
        << "sequence " << b << " sees its neighbours";
  }
}

TEST_P(Mixers, ABatchsGradientIsTheSumOfItsSequences) {
  const Model m(config());
  const Batch batch = hashed_batch(3, 9, kVocab);
  const Tensor whole = run_model(m.layers, batch, options()).grads;
  const Tensor sum = Tensor::zeros(whole.shape(), DType::f32, kCpu);
  for (int64_t b = 0; b < 3; ++b) add_to(sum, run_model(m.layers, row_of(batch, b), options()).grads);
  // As above, there and back.
  EXPECT_LE(relative_difference(sum, whole), 6e-6);
}

TEST_P(Mixers, RecomputeChangesNoBits) {
  const Model m(config());
  const Batch batch = hashed_batch(3, 9, kVocab);
  const RunResult plain = run_model(m.layers, batch, options());
  const RunResult again = run_model(m.layers, batch, options(true));
  expect_same(again, plain, "recompute");
  EXPECT_LT(again.forward_peak, plain.forward_peak);
  expect_same(run_model(m.layers, batch, options(true, WeightGradients::later)), plain, "recompute, weights later");
  expect_same(run_model(m.layers, batch, options(false, WeightGradients::later)), plain, "weights later");
}

TEST_P(Mixers, EvaluationGivesTheTrainingLossAndKeepsNothing) {
  const Model m(config());
  const Batch batch = hashed_batch(3, 9, kVocab);
  RunOptions evaluation = options();
  evaluation.mode = Tape::Mode::evaluate, evaluation.training = false;
  const RunResult trained = run_model(m.layers, batch, options()), evaluated = run_model(m.layers, batch, evaluation);
  EXPECT_TRUE(same_bits(trained.loss, evaluated.loss));
  EXPECT_EQ(trained.losses_sum, evaluated.losses_sum);
  EXPECT_LT(evaluated.peak, trained.forward_peak);
  EXPECT_EQ(evaluated.left, 0u);
  EXPECT_EQ(trained.left, 0u);
}

TEST_P(Mixers, MetaTellsThePeakMemory) {
  const Model real(config()), meta(config(), DType::f32, kMeta);
  const Batch batch = hashed_batch(3, 9, kVocab);
  for (const bool recompute : {false, true}) {
    const RunResult want = run_model(real.layers, batch, options(recompute)),
                    told = run_model(meta.layers, batch, options(recompute));
    EXPECT_EQ(told.forward_peak, want.forward_peak) << "recompute " << recompute;
    EXPECT_EQ(told.peak, want.peak) << "recompute " << recompute;
  }
}

TEST_P(Mixers, EveryParameterHasAGradient) {
  const Model m(config());
  run_model(m.layers, hashed_batch(3, 9, kVocab), options());
  for (const auto& p : m.layers.parameters().all()) {
    const double square = sum_of_squares(p->grad());
    if (has_bonus_without_effect() && p->name().ends_with("time_faaaa"))
      EXPECT_EQ(square, 0) << p->name() << ": published, and without effect";
    else
      EXPECT_GT(square, 0) << p->name();
  }
}

TEST_P(Mixers, SameBitsOnOneAndManyCores) {
  const Model m(config());
  const Batch batch = hashed_batch(3, 9, kVocab);
  const auto on = [&](int n) {
    const Threads threads(n);
    return run_model(m.layers, batch, options());
  };
  const RunResult one = on(1);
  expect_same(on(2), one, "2 threads");
}

// d/de loss(p + e v) for a hashed direction v, by differences, against <gradient, v>, of the whole model in double.
// A sum over all parameters: an error in one of them shows by its share of the direction, so each group of
// parameters (all time mixers' mixes, ...) is also moved alone.
TEST_P(Mixers, GradientsAreDerivatives) {
  const Model m(config(), DType::f64), direction(config(), DType::f64);
  const ParameterStore& store = m.layers.parameters();
  fill_hashed(direction.layers.parameters(), 2);
  const Batch batch = hashed_batch(2, 7, kVocab);
  const RunOptions exact{.loss_scale = 1.0 / 14};
  const Tensor grads = run_model(m.layers, batch, exact).grads, start = clone(store.values());
  const auto loss_along = [&](const std::vector<bool>& moved, double e) {
    copy(start, store.values());
    for (size_t i = 0; i < moved.size(); ++i) {
      if (!moved[i]) continue;
      const Parameter &p = *store.all()[i], &d = *direction.layers.parameters().all()[i];
      for (int64_t k = 0; k < p.shape().numel(); ++k) p.value().data<double>()[k] += e * d.value().data<double>()[k];
    }
    RunOptions evaluation = exact;
    evaluation.mode = Tape::Mode::evaluate;
    return run_model(m.layers, batch, evaluation).loss.data<double>()[0];
  };
  const auto check = [&](const std::vector<bool>& moved, const std::string& what) {
    double want = 0, size = 0;
    for (size_t i = 0; i < moved.size(); ++i) {
      if (!moved[i]) continue;
      const Parameter &p = *store.all()[i], &d = *direction.layers.parameters().all()[i];
      for (int64_t k = 0; k < p.shape().numel(); ++k) {
        const double term = grads.data<double>()[p.begin() + k] * d.value().data<double>()[k];
        want += term, size += term * term;
      }
    }
    // Fourth-order differences: h^4 is below all rounding, which is some 1e-15 of the loss (4) over h; where relu(k)^2
    // bends within 2h, its jump of the second derivative counts with h.
    constexpr double h = 1e-5;
    const double got =
        (8 * (loss_along(moved, h) - loss_along(moved, -h)) - (loss_along(moved, 2 * h) - loss_along(moved, -2 * h))) /
        (12 * h);
    EXPECT_NEAR(got, want, 1e-8 + 1e-6 * std::sqrt(size)) << what;
  };
  std::vector<bool> all(store.all().size(), true);
  check(all, "all parameters");
  for (const Role role : {Role::matrix, Role::vector, Role::mix, Role::lora, Role::decay, Role::bonus}) {
    std::vector<bool> some;
    for (const auto& p : store.all()) some.push_back(p->spec().role == role);
    check(some, cat("role ", static_cast<int>(role)));
  }
}

TEST_P(Mixers, AnyLengthAndAnyBatch) {
  const Model m(config());
  for (const int64_t T : {1, 2, 3, 16, 31, 65}) {
    const RunResult r = run_model(m.layers, hashed_batch(1, T, kVocab), options());
    EXPECT_NEAR(r.loss.data<float>()[0] * 27, r.losses_sum, 1e-5 * r.losses_sum) << T << " tokens";
    EXPECT_GT(sum_of_squares(r.grads), 0) << T << " tokens";
  }
  // The first tokens of a long sequence are a short one.
  const Batch longer = hashed_batch(1, 65, kVocab), shorter = hashed_batch(1, 1, kVocab);
  EXPECT_LE(relative_difference(logits_of(m.layers, shorter).view({kVocab}),
                                logits_of(m.layers, longer).view({65, kVocab}).slice(0, 1).view({kVocab})),
            3e-6);
}

TEST_P(Mixers, ParallelBlocksDifferAndMeetTheSame) {
  ModelConfig c = config();
  c.parallel = true;
  const Model plain(config()), parallel(c);
  const Batch batch = hashed_batch(3, 9, kVocab);
  const RunResult r = run_model(parallel.layers, batch, options());
  EXPECT_FALSE(same_bits(r.loss, run_model(plain.layers, batch, options()).loss));
  expect_same(run_model(parallel.layers, batch, options(true)), r, "recompute");
  for (const auto& p : parallel.layers.parameters().all())
    EXPECT_TRUE(p->name().ends_with("time_faaaa") || sum_of_squares(p->grad()) > 0) << p->name();
}

std::vector<Names> all_mixers() {
  std::vector<Names> all;
  for (const auto time : known_time_mixes())
    for (const auto channel : known_channel_mixes()) all.emplace_back(time, channel);
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, Mixers, testing::ValuesIn(all_mixers()), test_name);

// With dropout, for each time mixer and both kinds of block.
class Dropout : public OneThread, public testing::WithParamInterface<std::tuple<std::string, bool>> {
 protected:
  ModelConfig config(double p) const {
    ModelConfig c = small_config_with(std::get<0>(GetParam()), "x060");
    c.parallel = std::get<1>(GetParam()), c.dropout = p;
    return c;
  }
  static RunOptions seeded(uint64_t seed, bool recompute = false) {
    RunOptions o = options(recompute);
    o.seed = seed;
    return o;
  }
};

TEST_P(Dropout, TheMaskFollowsFromSeedAndSample) {
  const Model m(config(0.2)), none(config(0));
  const Batch batch = hashed_batch(3, 9, kVocab);
  const RunResult r = run_model(m.layers, batch, seeded(1));
  expect_same(run_model(m.layers, batch, seeded(1)), r, "a second time");
  expect_same(run_model(m.layers, batch, seeded(1, true)), r, "recompute");
  EXPECT_FALSE(same_bits(run_model(m.layers, batch, seeded(2)).loss, r.loss)) << "another seed";
  EXPECT_FALSE(same_bits(run_model(none.layers, batch, seeded(1)).loss, r.loss)) << "no dropout";
  Batch later = batch;
  for (int64_t& sample : later.samples_B) sample += 1000;
  EXPECT_FALSE(same_bits(run_model(m.layers, later, seeded(1)).loss, r.loss)) << "the same tokens as another sample";
  double alone = 0;
  for (int64_t b = 0; b < 3; ++b) alone += run_model(m.layers, row_of(batch, b), seeded(1)).losses_sum;
  EXPECT_NEAR(alone, r.losses_sum, 1e-5 * r.losses_sum) << "however the samples are put into batches";
}

TEST_P(Dropout, IsForTrainingOnly) {
  const Model m(config(0.2)), none(config(0));
  const Batch batch = hashed_batch(3, 9, kVocab);
  RunOptions evaluation = seeded(1);
  evaluation.training = false;
  const RunResult r = run_model(m.layers, batch, evaluation);
  // The residual addition and the norm run apart where there may be dropout: the same numbers.
  EXPECT_TRUE(same_bits(r.loss, run_model(none.layers, batch, evaluation).loss));
}

TEST_P(Dropout, ASmallShareChangesLittle) {
  // The loss's difference from that without dropout vanishes with p: values that stay are scaled by 1 / (1 - p).
  const Model m(config(1e-4)), none(config(0));
  const Batch batch = hashed_batch(3, 9, kVocab);
  const double want = run_model(none.layers, batch, seeded(1)).losses_sum;
  double sum = 0;
  for (uint64_t seed = 0; seed < 5; ++seed) sum += run_model(m.layers, batch, seeded(seed)).losses_sum;
  EXPECT_NEAR(sum / 5, want, 0.01 * want);
}

std::vector<std::string> all_time_mixes() {
  return {known_time_mixes().begin(), known_time_mixes().end()};
}

INSTANTIATE_TEST_SUITE_P(All, Dropout, testing::Combine(testing::ValuesIn(all_time_mixes()), testing::Bool()),
                         [](const auto& test) {
                           return std::get<0>(test.param) + (std::get<1>(test.param) ? "_parallel" : "");
                         });

class Positions : public OneThread, public testing::WithParamInterface<std::string> {};

TEST_P(Positions, EachEncodingIsItsOwn) {
  const Batch batch = hashed_batch(2, 9, kVocab);
  const auto losses = [&](auto&& change) {
    ModelConfig c = small_config_with(GetParam(), "x060");
    change(c);
    c.check();
    const Model m(c);
    const RunResult r = run_model(m.layers, batch, options());
    expect_same(run_model(m.layers, batch, options(true)), r, "recompute");
    return r.losses_sum;
  };
  const std::vector<double> all{
      losses([](ModelConfig&) {}),
      losses([](ModelConfig& c) { c.rope.emplace(); }),
      losses([](ModelConfig& c) { c.rope.emplace().base = 500; }),
      losses([](ModelConfig& c) { c.rope.emplace().rescale = 2; }),
      losses([](ModelConfig& c) { c.brope.emplace(); }),
      losses([](ModelConfig& c) { c.brope.emplace().rescale = 2; }),
      losses([](ModelConfig& c) { c.alibi.emplace(); }),
  };
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t j = 0; j < i; ++j) EXPECT_NE(all[i], all[j]) << i << " and " << j;
  const double rebased = losses([](ModelConfig& c) { c.rope = RopeConfig{250, 1, 2}; });
  EXPECT_EQ(rebased, all[2]) << "base 250 rebased by 2 is base 500";
}

std::vector<std::string> attention_mixes() {
  std::vector<std::string> names;
  for (const auto name : known_time_mixes())
    if (has_attention(name)) names.emplace_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, Positions, testing::ValuesIn(attention_mixes()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace gf
