// SPDX-License-Identifier: Apache-2.0
#include "ops/layer_norm/layer_norm.h"

#include <gtest/gtest.h>

#include "support/op_check.h"

namespace gf {
namespace {

OpCase norm_case(Shape x, int64_t C) {
  return {"layer_norm", {{x}, {{C}, 0.5, 1.5}, {{C}}}, [](Tape&, const std::vector<Var>& in) {
            return std::vector{layer_norm(in[0], in[1], in[2])};
          }};
}
OpCase residual_case(Shape x, int64_t C, bool use_sum) {
  return {"add_layer_norm", {{x}, {x}, {{C}, 0.5, 1.5}, {{C}}}, [=](Tape&, const std::vector<Var>& in) {
            const ResidualNorm r = add_layer_norm(in[0], in[1], in[2], in[3]);
            return use_sum ? std::vector{r.sum, r.normed} : std::vector{r.normed};
          }};
}

TEST(LayerNorm, Gradients) {
  check_gradients(norm_case({2, 3, 5}, 5));
}
TEST(LayerNorm, LargeAndOdd) {
  check_float_and_bits(norm_case({1, 3}, 3));
  check_float_and_bits(norm_case({3, 333, 77}, 77));
  check_float_and_bits(norm_case({3, 67, 72}, 72));  // loads of 8 bytes
  check_float_and_bits(norm_case({7, 2048}, 2048));  // and of 16
}
TEST(LayerNorm, LongRows) {
  check_float_and_bits(norm_case({9, 1037}, 1037));  // too long for a number a thread
}
TEST(AddLayerNorm, Gradients) {
  check_gradients(residual_case({2, 3, 5}, 5, true));
  check_gradients(residual_case({2, 3, 5}, 5, false));
}
TEST(AddLayerNorm, LargeAndOdd) {
  check_float_and_bits(residual_case({3, 333, 77}, 77, true));
  check_float_and_bits(residual_case({7, 2048}, 2048, true));
  check_float_and_bits(residual_case({9, 1037}, 1037, true));
}

}  // namespace
}  // namespace gf
