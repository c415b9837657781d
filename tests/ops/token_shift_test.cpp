// SPDX-License-Identifier: Apache-2.0
#include "ops/token_shift/token_shift.h"

#include <gtest/gtest.h>

#include "support/op_check.h"

namespace gf {
namespace {

OpCase shift_case(Shape x, int count, ShiftMix kind) {
  OpCase c{"token_shift", {{x}}, {}};
  for (int i = 0; i < count; ++i) c.inputs.push_back({{1, 1, x[2]}, 0, 1});
  c.run = [kind](Tape&, const std::vector<Var>& in) { return token_shift(in[0], std::span(in).subspan(1), kind); };
  return c;
}

TEST(TokenShift, Gradients) {
  check_gradients(shift_case({2, 3, 5}, 2, ShiftMix::toward_previous));
  check_gradients(shift_case({2, 3, 5}, 4, ShiftMix::toward_current));
}
TEST(TokenShift, LargeAndOdd) {
  check_float_and_bits(shift_case({1, 1, 3}, 2, ShiftMix::toward_previous));
  check_float_and_bits(shift_case({3, 111, 65}, 4, ShiftMix::toward_current));
  check_float_and_bits(shift_case({3, 111, 72}, 5, ShiftMix::toward_previous));  // loads of 8 and 16 bytes
  check_float_and_bits(shift_case({5, 1, 1100}, 1, ShiftMix::toward_previous));
}

TEST(TokenShift, FirstPositionSeesZeroBeforeIt) {
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  const Var x = tape.leaf(Tensor::of<double>({2, 2, 1}, {1, 2, 3, 4}), false);
  const Var m = tape.leaf(Tensor::of<double>({1}, {0.25}), false);
  const Tensor y = token_shift(x, std::vector{m})[0].value();
  EXPECT_EQ(std::vector<double>(y.data<double>(), y.data<double>() + 4), (std::vector<double>{0.75, 1.75, 2.25, 3.75}));
  const Tensor z = token_shift(x, std::vector{m}, ShiftMix::toward_current)[0].value();
  EXPECT_EQ(std::vector<double>(z.data<double>(), z.data<double>() + 4), (std::vector<double>{0.25, 1.25, 0.75, 3.25}));
}

TEST(TokenShift, GoesOnFromTheRowsBefore) {
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  const Var x = tape.leaf(Tensor::of<double>({2, 2, 1}, {1, 2, 3, 4}), false);
  const Var m = tape.leaf(Tensor::of<double>({1}, {0.25}), false);
  const Tensor before = Tensor::of<double>({2, 1}, {5, -1});
  const Tensor y = token_shift(x, std::vector{m}, ShiftMix::toward_previous, before)[0].value();
  EXPECT_EQ(std::vector<double>(y.data<double>(), y.data<double>() + 4), (std::vector<double>{2, 1.75, 2, 3.75}));
}

}  // namespace
}  // namespace gf
