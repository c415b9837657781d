// SPDX-License-Identifier: Apache-2.0
#include "ops/ddlerp/ddlerp.h"

#include <gtest/gtest.h>

#include "support/hashed.h"
#include "support/op_check.h"

namespace gf {
namespace {

// sources: for each target the input it interpolates: 0 is x, 1 and 2 are others.
OpCase ddlerp_case(int64_t B, int64_t T, int64_t C, int64_t R, const std::vector<int>& sources) {
  const auto n = static_cast<int64_t>(sources.size());
  const int others = *std::max_element(sources.begin(), sources.end());
  OpCase c{"ddlerp", {{{B, T, C}}, {{1, 1, C}, 0, 1}, {{C, n * R}}, {{n, R, C}}}, {}};
  for (int i = 0; i < others; ++i) c.inputs.push_back({{B, T, C}});
  for (int64_t i = 0; i < n; ++i) c.inputs.push_back({{1, 1, C}, 0, 1});
  c.run = [=](Tape&, const std::vector<Var>& in) {
    Ddlerp op{in[0], in[1], in[2], in[3], {}, {}};
    for (const int s : sources) op.sources.push_back(s ? in[3 + s] : in[0]);
    op.mixes.assign(in.begin() + 4 + others, in.end());
    return ddlerp(op);
  };
  return c;
}

TEST(Ddlerp, Gradients) {
  check_gradients(ddlerp_case(2, 3, 4, 2, {0, 0, 0}));
}
TEST(Ddlerp, GradientsOneTarget) {
  check_gradients(ddlerp_case(1, 4, 3, 2, {0}));
}
TEST(Ddlerp, GradientsOtherSources) {
  check_gradients(ddlerp_case(2, 3, 4, 2, {1, 0}));
  check_gradients(ddlerp_case(1, 3, 3, 1, {1, 2}));
}
TEST(Ddlerp, GradientsAcrossBlocks) {
  check_gradients(ddlerp_case(1, 130, 2, 1, {0, 1}));
}
TEST(Ddlerp, LargeAndOdd) {
  OpCase smallest = ddlerp_case(1, 1, 3, 1, {0});
  smallest.bf16_tolerance = 4e-2;  // its gradients come from one sum of three terms that nearly cancel
  check_float_and_bits(smallest);
  check_float_and_bits(ddlerp_case(3, 211, 96, 32, {0, 0, 0, 0, 0}));
  check_float_and_bits(ddlerp_case(2, 300, 65, 7, {1, 0}));
  check_float_and_bits(ddlerp_case(5, 9, 72, 3, {1, 0, 2, 1}));
}

// In two parts, the second with the last row of the first: the rows of the whole.
TEST(Ddlerp, GoesOnFromTheRowsBefore) {
  constexpr int64_t T = 7, first = 3, C = 4, R = 2;
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  const auto leaf = [&](const char* name, const Shape& shape) {
    return tape.leaf(hashed<double>(name, shape, 1), false);
  };
  const Tensor x = hashed<double>("x", {T, C}, 1);
  const auto shifted = [&](int64_t begin, int64_t end, const Tensor& before) {
    return ddlerp({tape.leaf(x.slice(begin, end).view({1, end - begin, C}), false),
                   leaf("mix_x", {C}),
                   leaf("w1", {C, 2 * R}),
                   leaf("w2", {2, R, C}),
                   {leaf("a", {C}), leaf("b", {C})},
                   {},
                   before});
  };
  const auto whole = shifted(0, T, {}), rest = shifted(first, T, x.slice(first - 1, first));
  for (size_t i = 0; i < 2; ++i)
    for (int64_t j = 0; j < (T - first) * C; ++j)
      EXPECT_NEAR(rest[i].value().data<double>()[j], whole[i].value().data<double>()[first * C + j], 1e-15);
}

}  // namespace
}  // namespace gf
