// SPDX-License-Identifier: Apache-2.0
#include "ops/head_loss/head_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/random.h"
#include "ops/head_loss/kernels.h"
#include "support/op_check.h"
#include "tensor/batch.h"

namespace gf {
namespace {

Tensor hashed_targets(Shape shape, int64_t V) {
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < shape.numel(); ++i)
    targets.push_back(
        static_cast<int32_t>(Random(3, "targets").bits(static_cast<uint64_t>(i)) % static_cast<uint64_t>(V)));
  return Tensor::of(shape, targets);
}

template <class T>
Tensor hashed(const char* name, Shape shape, double size = 1) {
  std::vector<T> values;
  for (int64_t i = 0; i < shape.numel(); ++i)
    values.push_back(static_cast<T>(size * Random(3, name).uniform(static_cast<uint64_t>(i))));
  return Tensor::of(shape, values);
}

OpCase loss_case(Shape tokens, int64_t C, int64_t V, HeadLossOptions options) {
  OpCase c{"head_loss", {{{tokens[0], tokens[1], C}}, {{V, C}}}, [=](Tape&, const std::vector<Var>& in) {
             const Tensor targets = on(in[0].value().device(), hashed_targets(tokens, V));
             return std::vector{head_loss(in[0], in[1], targets, options).loss};
           }};
  c.is_loss = true;
  return c;
}

// Without those that a hash does not mark; about `share` of them stay.
Tensor masked_targets(Shape shape, int64_t V, double share) {
  Tensor targets = hashed_targets(shape, V);
  for (int64_t i = 0; i < targets.numel(); ++i)
    if (Random(4, "marks").unit(static_cast<uint64_t>(i)) >= share) targets.data<int32_t>()[i] = kNoTarget;
  return targets;
}

OpCase masked_case(Shape tokens, int64_t C, int64_t V, double share, HeadLossOptions options) {
  OpCase c = loss_case(tokens, C, V, options);
  options.masked = true;
  c.run = [=](Tape&, const std::vector<Var>& in) {
    const Tensor targets = on(in[0].value().device(), masked_targets(tokens, V, share));
    return std::vector{head_loss(in[0], in[1], targets, options).loss};
  };
  return c;
}

// What one call gives, over tensors of T; gradients only when recording.
template <class T>
struct Given {
  T loss;
  std::vector<T> dx, dw;
  std::vector<double> losses;
  std::vector<int32_t> correct;
};

template <class T>
std::vector<T> values_of(const Tensor& there) {
  const Tensor t = on(kCpu, there);
  return t ? std::vector<T>(t.data<T>(), t.data<T>() + t.numel()) : std::vector<T>();
}

template <class T>
Given<T> give(const Tensor& x, const Tensor& w, const Tensor& targets, const HeadLossOptions& options,
              Tape::Mode mode = Tape::Mode::record, Device device = kCpu) {
  Arena arena(device);
  Tape tape(arena, mode);
  const Var xv = tape.leaf(on(device, x), true), wv = tape.leaf(on(device, w), true);
  const HeadLoss out = head_loss(xv, wv, on(device, targets), options);
  if (mode == Tape::Mode::record)
    tape.backward(std::vector{Tape::Seed{out.loss, on(device, Tensor::of<T>({1}, {T(1)}))}});
  return {*on(kCpu, out.loss.value()).data<T>(), values_of<T>(tape.grad(xv)), values_of<T>(tape.grad(wv)),
          values_of<double>(out.losses_BT), values_of<int32_t>(out.correct_BT)};
}

// The CPU, and the GPU where the build has it.
std::vector<Device> devices() {
  std::vector<Device> all{kCpu};
  if (kWithCuda) all.push_back({Device::Kind::cuda, 0});
  return all;
}

// The same from all logits, with loops.
Given<double> reference(const Tensor& x, const Tensor& w, const Tensor& targets, const HeadLossOptions& o) {
  const int64_t M = targets.numel(), C = x.size(-1), V = w.size(0);
  Given<double> r{0, std::vector<double>(M * C), std::vector<double>(V * C), {}, {}};
  const double *const X = x.data<double>(), *const W = w.data<double>();
  for (int64_t m = 0; m < M; ++m) {
    std::vector<double> l(V);
    for (int64_t v = 0; v < V; ++v)
      for (int64_t c = 0; c < C; ++c) l[v] += X[m * C + c] * W[v * C + c];
    const int64_t top = std::max_element(l.begin(), l.end()) - l.begin();
    const int32_t target = targets.data<int32_t>()[m];
    if (target == kNoTarget) {
      r.losses.push_back(0), r.correct.push_back(0);
      continue;
    }
    double total = 0;
    for (const double v : l) total += std::exp(v);
    r.losses.push_back(std::log(total) - l[target]);
    r.correct.push_back(top == target);
    r.loss += o.scale * r.losses.back();
    for (int64_t v = 0; v < V; ++v) {
      double d = o.scale * (std::exp(l[v]) / total - (v == target));
      if (v == top) d += o.pull * o.scale * l[v];
      for (int64_t c = 0; c < C; ++c) r.dx[m * C + c] += d * W[v * C + c], r.dw[v * C + c] += d * X[m * C + c];
    }
  }
  return r;
}

// In double; both sum the same terms, in other orders.
void expect_close(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-13) << i;
}

void expect_as_reference(const Tensor& x, const Tensor& w, const Tensor& targets, const HeadLossOptions& options) {
  const Given<double> want = reference(x, w, targets, options);
  for (const Device device : devices()) {
    SCOPED_TRACE(device);
    const Given<double> got = give<double>(x, w, targets, options, Tape::Mode::record, device);
    EXPECT_NEAR(got.loss, want.loss, 1e-12 * std::fabs(want.loss));
    expect_close(got.losses, want.losses);
    expect_close(got.dx, want.dx);
    expect_close(got.dw, want.dw);
    EXPECT_EQ(got.correct, want.correct);
  }
}

TEST(HeadLoss, Gradients) {
  check_gradients(loss_case({2, 3}, 5, 7, {.scale = 1.0 / 6}));
  check_gradients(loss_case({1, 1}, 1, 1, {}));
}
TEST(HeadLoss, LargeAndOdd) {
  check_float_and_bits(loss_case({3, 333}, 65, 97, {.scale = 1e-3, .pull = 1e-4}));
  check_float_and_bits(loss_case({1, 5}, 33, 4099, {.scale = 0.2, .pull = 1e-4}));
}
TEST(HeadLoss, ChunksThatDoNotDivide) {  // of at most 512 rows here: 513 positions go in 257 and 256
  check_float_and_bits(loss_case({3, 171}, 4, 10301, {.scale = 1.0 / 513, .pull = 1e-4}));
}

TEST(HeadLoss, AgreesWithAllLogitsAtOnce) {
  const Tensor x = hashed<double>("x", {2, 9, 6}), w = hashed<double>("w", {31, 6}, 2), t = hashed_targets({2, 9}, 31);
  expect_as_reference(x, w, t, {.scale = 1.0 / 18});
}

TEST(HeadLoss, PullsTheLargestLogit) {
  const Tensor x = hashed<double>("x", {2, 9, 6}), w = hashed<double>("w", {31, 6}, 2), t = hashed_targets({2, 9}, 31);
  const HeadLossOptions with{.scale = 1.0 / 18, .pull = 0.5}, without{.scale = 1.0 / 18};
  expect_as_reference(x, w, t, with);
  EXPECT_EQ(give<double>(x, w, t, with).loss, give<double>(x, w, t, without).loss);
  EXPECT_NE(give<double>(x, w, t, with).dx, give<double>(x, w, t, without).dx);
}

TEST(HeadLoss, MaskedGradients) {
  check_gradients(masked_case({2, 5}, 5, 7, 0.5, {.scale = 1.0 / 6}));
}
TEST(HeadLoss, MaskedLargeAndOdd) {
  check_float_and_bits(masked_case({3, 333}, 65, 97, 0.3, {.scale = 1e-3, .pull = 1e-4}));
  // Chunks of at most 512 rows of 513 positions: marked ones in one chunk, and just more than fit in one.
  check_float_and_bits(masked_case({3, 171}, 4, 10301, 0.5, {.scale = 1.0 / 256, .pull = 1e-4}));
  check_float_and_bits(masked_case({3, 400}, 4, 10301, 0.5, {.scale = 1.0 / 600, .pull = 1e-4}));
}

TEST(HeadLoss, MaskedAgreesWithAllLogitsAtOnce) {
  const Tensor x = hashed<double>("x", {2, 30, 6}), w = hashed<double>("w", {31, 6}, 2);
  for (const double share : {0.0, 0.1, 0.5, 1.0})
    expect_as_reference(x, w, masked_targets({2, 30}, 31, share), {.scale = 0.1, .pull = 0.5, .masked = true});
}

TEST(HeadLoss, AMaskThatMarksAllGivesTheBitsOfNone) {
  const Tensor x = hashed<float>("x", {3, 171, 24}), w = hashed<float>("w", {10301, 24});
  const Tensor t = hashed_targets({3, 171}, 10301);
  const Given<float> without = give<float>(x, w, t, {.scale = 0.1, .pull = 1e-4}),
                     with = give<float>(x, w, t, {.scale = 0.1, .pull = 1e-4, .masked = true});
  EXPECT_EQ(with.loss, without.loss);
  EXPECT_EQ(with.dx, without.dx);
  EXPECT_EQ(with.dw, without.dw);
  EXPECT_EQ(with.losses, without.losses);
}

// Whatever an op asks for: a last chunk that is shorter, one of a single row.
TEST(HeadLoss, ChunksOfAnyLength) {
  constexpr int64_t M = 18, C = 6, V = 31;
  const Tensor x = hashed<double>("x", {2, 9, C}), w = hashed<double>("w", {V, C}, 2), t = hashed_targets({2, 9}, V);
  const Given<double> want = reference(x, w, t, {.pull = 0.5});
  for (const Device device : devices()) {
    for (const int64_t rows : {1, 5, 17}) {
      SCOPED_TRACE(cat(device, ": ", rows, " rows"));
      const Tensor dx = Tensor::empty(x.shape(), DType::f64, device), dw = Tensor::zeros(w.shape(), DType::f64, device);
      const Tensor logits = Tensor::empty({rows, 48}, DType::f64, device),
                   loss = Tensor::empty({1}, DType::f64, device);
      const Tensor losses = Tensor::empty({M}, DType::f64, device), correct = Tensor::empty({M}, DType::i32, device);
      const Tensor x_there = on(device, x), w_there = on(device, w), t_there = on(device, t);
      on_device(
          device,
          HeadLossArgs<double>{M,
                               C,
                               V,
                               {rows, 48},
                               1,
                               0.5,
                               false,
                               x_there.data<double>(),
                               w_there.data<double>(),
                               t_there.data<int32_t>(),
                               logits.data<double>(),
                               nullptr,
                               nullptr,
                               loss.data<double>(),
                               losses.data<double>(),
                               correct.data<int32_t>(),
                               dx.data<double>(),
                               dw.data<double>()},
          [](const auto& p) { cpu::head_loss(p); }, [](const auto& p, auto stream) { cuda::head_loss(p, stream); });
      expect_close(values_of<double>(losses), want.losses);
      expect_close(values_of<double>(dx), want.dx);
      expect_close(values_of<double>(dw), want.dw);
    }
  }
}

TEST(HeadLoss, TheFirstOfEqualLogitsIsTheLargest) {
  const Tensor x = Tensor::of<double>({1, 1, 1}, {2});
  const Tensor w = Tensor::of<double>({4, 1}, {-1, 3, 3, 0});
  for (const int32_t target : {1, 2}) expect_as_reference(x, w, Tensor::of<int32_t>({1, 1}, {target}), {.pull = 0.1});
}

TEST(HeadLoss, EvaluationGivesTheLossOfTraining) {
  const Tensor x = hashed<float>("x", {2, 70, 24}), w = hashed<float>("w", {300, 24}), t = hashed_targets({2, 70}, 300);
  const Given<float> training = give<float>(x, w, t, {.scale = 1.0 / 140, .pull = 1e-4});
  const Given<float> evaluation = give<float>(x, w, t, {.scale = 1.0 / 140}, Tape::Mode::evaluate);
  EXPECT_EQ(training.loss, evaluation.loss);
  EXPECT_EQ(training.losses, evaluation.losses);
  EXPECT_EQ(training.correct, evaluation.correct);
}

TEST(HeadLoss, EqualLogitsLoseLogV) {
  const Tensor x = hashed<float>("x", {1, 40, 8}), w = Tensor::zeros({257, 8}, DType::f32, kCpu);
  const Tensor t = hashed_targets({1, 40}, 257);
  EXPECT_FLOAT_EQ(give<float>(x, w, t, {.scale = 1.0 / 40}).loss, std::log(257.0f));
}

TEST(HeadLoss, LogitsFarApart) {  // exp(1000) is beyond float
  const Tensor x = Tensor::of<float>({1, 2, 1}, {1000, -1000}), w = Tensor::of<float>({3, 1}, {1, 0, -1});
  for (const Device device : devices()) {
    const Given<float> r = give<float>(x, w, Tensor::of<int32_t>({1, 2}, {0, 0}), {}, Tape::Mode::record, device);
    EXPECT_EQ(r.losses, (std::vector<double>{0, 2000})) << device;
    EXPECT_EQ(r.correct, (std::vector<int32_t>{1, 0})) << device;
  }
}

TEST(HeadLoss, LeavesNoDenormalGradients) {  // they would make the products many times slower
  const Tensor x = Tensor::of<float>({1, 1, 1}, {1}), w = Tensor::of<float>({3, 1}, {0, -50, -85});
  for (const Device device : devices()) {
    const Given<float> r =
        give<float>(x, w, Tensor::of<int32_t>({1, 1}, {0}), {.scale = 1e-3}, Tape::Mode::record, device);
    EXPECT_FLOAT_EQ(r.dw[1], 1e-3f * std::exp(-50.0f)) << device;
    EXPECT_EQ(r.dw[2], 0.0f) << device;  // 1e-40
  }
}

TEST(HeadLoss, NotANumberIsNeverHidden) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const float bad : {nan, inf}) {
    for (const int64_t at : {0, 5, 90}) {  // within the vectorised part and after it
      const Tensor x = Tensor::of<float>({1, 2, 1}, {1, 1}), w = hashed<float>("w", {91, 1});
      w.data<float>()[at] = bad;
      for (const auto mode : {Tape::Mode::record, Tape::Mode::evaluate})
        for (const Device device : devices())
          EXPECT_TRUE(std::isnan(give<float>(x, w, Tensor::of<int32_t>({1, 2}, {5, 6}), {}, mode, device).loss))
              << bad << " at " << at << " on " << device;
    }
  }
}

TEST(HeadLoss, AddsToTheSumItIsGiven) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Tensor x = hashed<double>("x", {1, 4, 3}), w = hashed<double>("w", {5, 3}), t = hashed_targets({1, 4}, 5);
  const Tensor sum = Tensor::of<double>({5, 3}, std::vector<double>(15, 7));
  const Var wv = tape.parameter(w, sum);
  const Var loss = head_loss(tape.leaf(x, false), wv, t).loss;
  tape.backward(std::vector{Tape::Seed{loss, Tensor::of<double>({1}, {1})}});
  std::vector<double> want = reference(x, w, t, {}).dw;
  for (double& v : want) v += 7;
  expect_close(values_of<double>(sum), want);
}

TEST(HeadLoss, IsOnlySeededWithOne) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var loss = head_loss(tape.leaf(hashed<float>("x", {1, 4, 3}), true),
                             tape.leaf(hashed<float>("w", {5, 3}), true), hashed_targets({1, 4}, 5))
                       .loss;
  EXPECT_THROW(tape.backward(std::vector{Tape::Seed{loss, Tensor::of<float>({1}, {0.5f})}}), Error);
}

TEST(HeadLoss, NamesATargetOutsideTheVocabulary) {
  const Tensor x = hashed<float>("x", {1, 3, 2}), w = hashed<float>("w", {5, 2});
  for (const auto& [bad, masked] : {std::pair(5, false), {-1, false}, {5, true}, {-2, true}}) {
    try {
      give<float>(x, w, Tensor::of<int32_t>({1, 3}, {0, 4, bad}), {.masked = masked});
      FAIL() << bad;
    } catch (const Error& e) {
      const std::string what = e.what();
      EXPECT_NE(what.find(cat("target ", bad, " at position 2, vocabulary of 5")), std::string::npos) << what;
    }
  }
}

TEST(HeadLoss, SaysBothShapes) {
  try {
    give<float>(hashed<float>("x", {1, 3, 2}), hashed<float>("w", {5, 4}), hashed_targets({1, 3}, 5), {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("1x3x2"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("5x4"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace gf
