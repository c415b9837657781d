// SPDX-License-Identifier: Apache-2.0
#include "ops/elementwise/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "support/op_check.h"

namespace gf {
namespace {

using TwoToOne = Var (*)(const Var&, const Var&);

OpCase binary_case(const char* name, TwoToOne op, Shape shape) {
  return {name, {{shape, -3, 3}, {shape, -3, 3}}, [=](Tape&, const std::vector<Var>& in) {
            return std::vector{op(in[0], in[1])};
          }};
}
OpCase residual_case(Shape shape) {
  return {"sigmoid_gate_residual", {{shape}, {shape, -3, 3}, {shape}}, [](Tape&, const std::vector<Var>& in) {
            return std::vector{sigmoid_gate_residual(in[0], in[1], in[2])};
          }};
}
// Beside the gated sum, x goes on alone: its gradient comes from two sides.
OpCase shared_case(Shape shape) {
  return {"shared", {{shape}, {shape}}, [](Tape&, const std::vector<Var>& in) {
            const Var sum = add(in[0], in[1]);
            return std::vector{sigmoid_gate_residual(sum, in[1], sum), swiglu(sum, sum), sum};
          }};
}
OpCase dropout_case(Shape shape, double p) {
  std::vector<int64_t> samples;
  for (int64_t b = 0; b < shape[0]; ++b) samples.push_back(1000 + 7 * b);
  return {"dropout", {{shape}}, [=](Tape&, const std::vector<Var>& in) {
            return std::vector{dropout(in[0], p, {1, "blocks.0", samples})};
          }};
}
OpCase broadcast_case(Shape row, Shape out) {
  return {"broadcast_rows", {{row}}, [=](Tape&, const std::vector<Var>& in) {
            return std::vector{broadcast_rows(in[0], out)};
          }};
}

TEST(Elementwise, Gradients) {
  check_gradients(binary_case("add", add, {2, 3, 5}));
  check_gradients(binary_case("swiglu", swiglu, {2, 3, 5}));
  check_gradients(binary_case("sigmoid_gate", sigmoid_gate, {2, 3, 5}));
  check_gradients(residual_case({2, 3, 5}));
  check_gradients(shared_case({2, 3, 5}));
  check_gradients(dropout_case({2, 3, 5}, 0.4));
  check_gradients(broadcast_case({2, 3}, {2, 4, 6}));
}
TEST(Elementwise, LargeAndOdd) {
  check_float_and_bits(binary_case("add", add, {3, 333, 77}));
  check_float_and_bits(binary_case("swiglu", swiglu, {3, 333, 77}));
  check_float_and_bits(binary_case("sigmoid_gate", sigmoid_gate, {3, 333, 77}));
  check_float_and_bits(residual_case({3, 333, 77}));
  check_float_and_bits(shared_case({3, 333, 77}));
  check_float_and_bits(dropout_case({3, 333, 77}, 0.1));
  check_float_and_bits(broadcast_case({77}, {3, 333, 77}));
}

// dropout(x = 1, ...), so that what comes back is the mask times 1 / (1 - p).
std::vector<float> mask(double p, const DropoutKey& key, int64_t T = 64, int64_t C = 48) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Shape shape{static_cast<int64_t>(key.samples_B.size()), T, C};
  const Var x = tape.leaf(Tensor::of<float>(shape, std::vector<float>(static_cast<size_t>(shape.numel()), 1)), false);
  const Tensor y = dropout(x, p, key).value();
  return {y.data<float>(), y.data<float>() + y.numel()};
}

TEST(Dropout, IsDecidedByTheSampleAndThePlaceAlone) {
  const std::vector<float> both = mask(0.25, {9, "a", {4, 70}});
  std::vector<float> apart = mask(0.25, {9, "a", {4}});
  const std::vector<float> second = mask(0.25, {9, "a", {70}});
  EXPECT_NE(apart, second);
  apart.insert(apart.end(), second.begin(), second.end());
  EXPECT_EQ(both, apart);
  EXPECT_NE(both, mask(0.25, {9, "b", {4, 70}}));
  EXPECT_NE(both, mask(0.25, {8, "a", {4, 70}}));
  const Random random(9, "a");
  for (size_t i = 0; i < 64 * 48; ++i) ASSERT_EQ(both[i] != 0, random.unit(4 * 64 * 48 + i) >= 0.25) << i;
}

TEST(Dropout, KeepsTheExpectedValue) {
  const std::vector<float> kept = mask(0.25, {9, "a", {0, 1, 2, 3}}, 128, 128);
  double sum = 0;
  for (const float m : kept) {
    ASSERT_TRUE(m == 0 || m == 1 / 0.75f) << m;
    sum += m;
  }
  // Five standard deviations, sqrt(p / (1 - p)) each over the root of 65536 elements.
  EXPECT_NEAR(sum / static_cast<double>(kept.size()), 1, 5 * std::sqrt(0.25 / 0.75 / 65536));
}

TEST(Dropout, OfNothingIsTheValueItself) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var x = tape.leaf(Tensor::zeros({1, 2, 3}, DType::f32, kCpu), true);
  EXPECT_EQ(dropout(x, 0, {}).value().raw(), x.value().raw());
}

TEST(Dropout, ChecksItsProbabilityAndSamples) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var x = tape.leaf(Tensor::zeros({2, 2, 3}, DType::f32, kCpu), true);
  EXPECT_THROW(dropout(x, 1, {0, "a", {0, 1}}), Error);
  EXPECT_THROW(dropout(x, -0.1, {0, "a", {0, 1}}), Error);
  try {
    dropout(x, 0.5, {0, "a", {0, 1, 2}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("3 sample numbers for 2x2x3"), std::string::npos) << e.what();
  }
}

TEST(Elementwise, SaysBothShapes) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var a = tape.leaf(Tensor::zeros({2, 3}, DType::f32, kCpu), false);
  const Var b = tape.leaf(Tensor::zeros({2, 4}, DType::f32, kCpu), false);
  for (const TwoToOne op : {TwoToOne{add}, TwoToOne{swiglu}, TwoToOne{sigmoid_gate}}) {
    try {
      op(a, b);
      FAIL();
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("2x3"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("2x4"), std::string::npos) << e.what();
    }
  }
  EXPECT_THROW(broadcast_rows(a, {4, 3}), Error);
  EXPECT_THROW(sigmoid_gate_residual(b, a, a), Error);
}

}  // namespace
}  // namespace gf
