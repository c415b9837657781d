// SPDX-License-Identifier: Apache-2.0
#include "ops/rotary/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numbers>

#include "base/random.h"
#include "support/op_check.h"

namespace gf {
namespace {

OpCase rotary_case(Shape shape, int64_t num_heads) {
  const auto table = std::make_shared<RotaryTable>(rope_speeds(shape[2] / num_heads, 10000));
  return {"rotary", {{shape}}, [=](Tape&, const std::vector<Var>& in) {
            return std::vector{rotary(in[0], num_heads, *table)};
          }};
}

TEST(Rotary, Gradients) {
  check_gradients(rotary_case({2, 5, 12}, 3));
  check_gradients(rotary_case({1, 1, 2}, 1));
}
TEST(Rotary, LargeAndOdd) {
  check_float_and_bits(rotary_case({1, 1, 8}, 1));
  check_float_and_bits(rotary_case({3, 513, 3 * 10}, 3));
  check_float_and_bits(rotary_case({1, 700, 5 * 64}, 5));
}

TEST(Rotary, Speeds) {
  const auto plain = rope_speeds(64, 10000);
  ASSERT_EQ(plain.size(), 32u);
  EXPECT_DOUBLE_EQ(plain[0], 1);
  EXPECT_DOUBLE_EQ(plain[16], 0.01);  // 10000^(-32/64)
  const auto stretched = rope_speeds(64, 10000, 4, 100);
  EXPECT_DOUBLE_EQ(stretched[0], 0.25);
  EXPECT_DOUBLE_EQ(stretched[16], 0.25e-3);  // (10^6)^(-1/2) / 4
}

TEST(Rotary, BinarySpeeds) {
  const auto speeds = binary_rope_speeds(64, 1023, 2);
  ASSERT_EQ(speeds.size(), 32u);
  EXPECT_DOUBLE_EQ(speeds[0], std::numbers::pi / 2);
  EXPECT_DOUBLE_EQ(speeds[8], std::numbers::pi / 512);
  EXPECT_EQ(speeds[9], 0);  // floor(log2 1023) = 9
  EXPECT_EQ(speeds[31], 0);
  EXPECT_GT(binary_rope_speeds(64, 1024)[9], 0);
  EXPECT_EQ(binary_rope_speeds(64, 1)[0], 0);
}

TEST(Rotary, TurnsNeighbours) {
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  const RotaryTable table({0.5, 0});
  // Two positions of two heads; the first pair of each head is (1, 0).
  const Tensor x = Tensor::of<double>({1, 2, 8}, {1, 0, 3, 4, 1, 0, 5, 6, 1, 0, 3, 4, 0, 1, 5, 6});
  const Tensor y = rotary(tape.leaf(x, false), 2, table).value();
  const double c = std::cos(0.5), s = std::sin(0.5);
  const std::vector<double> want{1, 0, 3, 4, 1, 0, 5, 6, c, s, 3, 4, -s, c, 5, 6};
  for (int64_t i = 0; i < y.numel(); ++i) EXPECT_DOUBLE_EQ(y.data<double>()[i], want[i]) << i;
}

// The same query and key, the same distance apart, anywhere: the same product.
TEST(Rotary, OnlyDistanceMatters) {
  constexpr int64_t T = 1000, N = 16;
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  const RotaryTable table(rope_speeds(N, 10000));
  Tensor q = arena.empty({1, T, N}, DType::f64), k = arena.empty({1, T, N}, DType::f64);
  for (int64_t i = 0; i < T * N; ++i) {
    q.data<double>()[i] = Random(1, "q").unit(i % N);
    k.data<double>()[i] = Random(1, "k").unit(i % N);
  }
  const Tensor rq = rotary(tape.leaf(q, false), 1, table).value(), rk = rotary(tape.leaf(k, false), 1, table).value();
  const auto product = [&](int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t c = 0; c < N; ++c) sum += rq.data<double>()[i * N + c] * rk.data<double>()[j * N + c];
    return sum;
  };
  for (const int64_t distance : {0, 1, 17, 400})
    EXPECT_NEAR(product(distance, 0), product(T - 1, T - 1 - distance), 1e-11) << distance;  // angles to 1000 * 1e-16
  EXPECT_GT(std::fabs(product(17, 0) - product(0, 0)), 0.1);
}

constexpr int64_t kKept = RotaryTable::kKept;

TEST(RotaryTable, FromTheFirstPositionGrowsAndIsKept) {
  Arena arena(kCpu), meta(kMeta);
  const RotaryTable table(rope_speeds(8, 10000));
  EXPECT_EQ(table.head_size(), 8);
  const auto place = [&](int64_t T) { return table.angles(0, T, DType::f32, arena).raw(); };
  const Tensor first = table.angles(0, kKept, DType::f32, arena);
  EXPECT_EQ(first.shape(), (Shape{kKept, 4, 2}));
  EXPECT_EQ(place(7), first.raw());
  const Tensor longer = table.angles(0, kKept + 1, DType::f32, arena);
  EXPECT_EQ(longer.shape(), (Shape{kKept + 1, 4, 2}));
  EXPECT_EQ(place(2 * kKept), longer.raw());
  // What was given out before stays as it was, and agrees.
  for (int64_t i = 0; i < first.numel(); ++i) ASSERT_EQ(first.data<float>()[i], longer.data<float>()[i]) << i;
  EXPECT_EQ(table.angles(0, 5, DType::f64, arena).dtype(), DType::f64);
  EXPECT_EQ(table.angles(0, 5, DType::f32, meta).device(), kMeta);
  EXPECT_EQ(place(5), first.raw());
  EXPECT_EQ(arena.peak_bytes(), 0u);
}

// A graph reads where it has read when it was captured.
TEST(RotaryTable, WhatWasGivenOutStaysWhereItIs) {
  Arena arena(kCpu);
  const RotaryTable table(rope_speeds(8, 10000));
  const std::byte* const place = table.angles(0, 10, DType::f32, arena).raw();
  table.angles(0, 3 * kKept, DType::f32, arena);
  EXPECT_EQ(table.angles(0, 10, DType::f32, arena).raw(), place);
}

// A text that is read piece by piece: kept up to a limit, beyond it of the pass, and the same bits in either.
TEST(RotaryTable, FarPositionsAreOfThePassAndHaveTheSameBits) {
  Arena arena(kCpu), whole(kCpu), meta(kMeta);
  const RotaryTable table(rope_speeds(8, 10000)), other(rope_speeds(8, 10000));
  const Tensor want = other.angles(0, 2 * kKept, DType::f32, whole);
  const auto expect_same = [&](int64_t begin, int64_t end, size_t bytes_of_pass) {
    const Tensor got = table.angles(begin, end, DType::f32, arena);
    EXPECT_EQ(arena.bytes_in_use() > 0, bytes_of_pass > 0) << begin;
    EXPECT_GE(arena.bytes_in_use(), bytes_of_pass) << begin;
    ASSERT_EQ(got.shape(), (Shape{end - begin, 4, 2}));
    const float* const from = want.data<float>() + begin * 8;
    for (int64_t i = 0; i < got.numel(); ++i) ASSERT_EQ(got.data<float>()[i], from[i]) << begin << ", " << i;
  };
  expect_same(1, 2, 0);
  expect_same(kKept - 7, kKept, 0);
  expect_same(kKept - 7, kKept + 1, 8 * 32);
  expect_same(kKept, kKept + 257, 257 * 32);
  expect_same(2 * kKept - 1, 2 * kKept, 32);
  EXPECT_EQ(arena.bytes_in_use(), 0u);
  EXPECT_EQ(table.angles(kKept, kKept + 5, DType::f32, meta).device(), kMeta);
}

// The angle is taken in double: in float, position 100,000 would be off by up to 0.004 radians.
TEST(RotaryTable, FarPositionsAreExact) {
  Arena arena(kCpu);
  const RotaryTable table({0.7});
  const Tensor angles = table.angles(100000, 100001, DType::f32, arena);
  EXPECT_EQ(angles.data<float>()[0], static_cast<float>(std::cos(0.7 * 100000)));
  EXPECT_EQ(angles.data<float>()[1], static_cast<float>(std::sin(0.7 * 100000)));
}

TEST(Rotary, SaysWhatDoesNotFit) {
  Arena arena(kCpu);
  Tape tape(arena);
  const RotaryTable table(rope_speeds(8, 10000));
  const auto message = [](auto&& work) -> std::string {
    try {
      work();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  const std::string wrong = message([&] { rotary(tape.leaf(arena.empty({1, 3, 20}, DType::f32), false), 2, table); });
  EXPECT_NE(wrong.find("2 heads of size 8 in 1x3x20"), std::string::npos) << wrong;
  EXPECT_NE(message([] { rope_speeds(7, 10000); }).find("head size 7"), std::string::npos);
  EXPECT_NE(message([] { rope_speeds(8, 10000, 0); }).find("rescale 0"), std::string::npos);
  EXPECT_NE(message([] { binary_rope_speeds(8, 0); }).find("ctx_len 0"), std::string::npos);
}

}  // namespace
}  // namespace gf
