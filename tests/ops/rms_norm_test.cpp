// SPDX-License-Identifier: Apache-2.0
#include "ops/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/op_check.h"

namespace gf {
namespace {

OpCase norm_case(Shape x, double eps = 1e-8) {
  return {"rms_norm", {{x}}, [=](Tape&, const std::vector<Var>& in) { return std::vector{rms_norm(in[0], eps)}; }};
}

TEST(RmsNorm, Gradients) {
  check_gradients(norm_case({2, 3, 5}));
  check_gradients(norm_case({2, 3, 5}, 0.3));  // an eps that shows
}
TEST(RmsNorm, LargeAndOdd) {
  check_float_and_bits(norm_case({1, 3}));
  check_float_and_bits(norm_case({3, 333, 77}));
  check_float_and_bits(norm_case({3, 67, 72}));  // loads of 8 bytes
  check_float_and_bits(norm_case({7, 2048}));    // and of 16
  check_float_and_bits(norm_case({9, 1037}));    // too long for a number a thread
}

TEST(RmsNorm, AddsEpsToTheRoot) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var y = rms_norm(tape.leaf(Tensor::of<double>({1, 2}, {3, -1}), false), 0.5);
  const double root = std::sqrt(5.0) + 0.5;  // sqrt((9 + 1) / 2)
  EXPECT_DOUBLE_EQ(y.value().data<double>()[0], 3 / root);
  EXPECT_DOUBLE_EQ(y.value().data<double>()[1], -1 / root);
}

TEST(RmsNorm, RowsOfZeros) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var x = tape.leaf(Tensor::zeros({2, 4}, DType::f32, kCpu), true);
  const Var y = rms_norm(x);
  tape.backward(std::vector{Tape::Seed{y, Tensor::of<float>({2, 4}, std::vector<float>(8, 1))}});
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(y.value().data<float>()[i], 0.0f);
    EXPECT_FLOAT_EQ(tape.grad(x).data<float>()[i], 1e8f);
  }
}

}  // namespace
}  // namespace gf
