// SPDX-License-Identifier: Apache-2.0
#include "ops/linear/linear.h"

#include <gtest/gtest.h>

#include "support/op_check.h"

namespace gf {
namespace {

OpCase linear_case(Shape x, Shape w) {
  return {"linear", {{x}, {w}}, [](Tape&, const std::vector<Var>& in) { return std::vector{linear(in[0], in[1])}; }};
}
OpCase relu_squared_case(Shape x, Shape w) {
  return {"linear_relu_squared", {{x}, {w}}, [](Tape&, const std::vector<Var>& in) {
            return std::vector{linear_relu_squared(in[0], in[1])};
          }};
}
OpCase concat_case(Shape x, Shape c, Shape w) {
  return {"linear_concat", {{x}, {c}, {w}}, [](Tape&, const std::vector<Var>& in) {
            return std::vector{linear_concat(in[0], in[1], in[2])};
          }};
}

TEST(Linear, Gradients) {
  check_gradients(linear_case({2, 3, 5}, {4, 5}));
}
TEST(Linear, LargeAndOdd) {
  check_float_and_bits(linear_case({1, 1}, {1, 1}));
  check_float_and_bits(linear_case({3, 257, 65}, {131, 65}));
  check_float_and_bits(linear_case({1100, 96}, {704, 96}));
}
TEST(LinearReluSquared, Gradients) {
  check_gradients(relu_squared_case({2, 3, 5}, {7, 5}));
}
TEST(LinearReluSquared, LargeAndOdd) {
  check_float_and_bits(relu_squared_case({3, 257, 65}, {131, 65}));
}
TEST(LinearConcat, Gradients) {
  check_gradients(concat_case({2, 3, 5}, {2, 3, 2}, {4, 7}));
}
TEST(LinearConcat, LargeAndOdd) {
  check_float_and_bits(concat_case({2, 300, 64}, {2, 300, 4}, {96, 68}));
}

TEST(Linear, SaysBothShapes) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var x = tape.leaf(arena.empty({2, 3}, DType::f32), false),
            w = tape.leaf(arena.empty({4, 5}, DType::f32), false);
  try {
    linear(x, w);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("2x3"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("4x5"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace gf
