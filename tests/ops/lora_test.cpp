// SPDX-License-Identifier: Apache-2.0
#include "ops/lora/lora.h"

#include <gtest/gtest.h>

#include "support/op_check.h"

namespace gf {
namespace {

OpCase lora_case(Shape x, int64_t R, int64_t N, Shape base) {
  return {"lora", {{x}, {{x[2], R}}, {{R, N}}, {base}}, [](Tape&, const std::vector<Var>& in) {
            return std::vector{lora(in[0], in[1], in[2], in[3])};
          }};
}

TEST(Lora, GradientsWithVector) {
  check_gradients(lora_case({2, 3, 5}, 2, 4, {1, 1, 4}));
}
TEST(Lora, GradientsWithRows) {
  check_gradients(lora_case({2, 3, 5}, 2, 4, {2, 3, 4}));
}
TEST(Lora, GradientsWhereBaseIsTheInput) {
  check_gradients({"loradapt", {{{2, 3, 4}}, {{4, 2}}, {{2, 4}}}, [](Tape&, const std::vector<Var>& in) {
                     return std::vector{lora(in[0], in[1], in[2], in[0])};
                   }});
}
TEST(Lora, LargeAndOdd) {
  check_float_and_bits(lora_case({1, 1, 3}, 1, 3, {3}));
  check_float_and_bits(lora_case({3, 117, 96}, 33, 65, {65}));
  check_float_and_bits(lora_case({2, 65, 24}, 8, 72, {72}));
}

}  // namespace
}  // namespace gf
