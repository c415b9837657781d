// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "support/hashed.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

constexpr int64_t kPad = 5;  // columns between the rows of each matrix that belong to another

// transpose_a, transpose_b, m, n, k: fewer and more than a block of rows and of a sum, and what is left over of eights.
using Product = std::tuple<bool, bool, int64_t, int64_t, int64_t>;
class Gemm : public testing::TestWithParam<Product> {
 protected:
  // op(A)[i][j] or op(B)[i][j].
  static double at(const Tensor& t, bool transposed, int64_t i, int64_t j) {
    return transposed ? t.data<float>()[j * t.size(1) + i] : t.data<float>()[i * t.size(1) + j];
  }
};

TEST_P(Gemm, AgreesWithTheDefinition) {
  const auto [transpose_a, transpose_b, m, n, k] = GetParam();
  const Tensor a = hashed<float>("a", transpose_a ? Shape{k, m + kPad} : Shape{m, k + kPad}, 1);
  const Tensor b = hashed<float>("b", transpose_b ? Shape{n, k + kPad} : Shape{k, n + kPad}, 1);
  const Tensor before = hashed<float>("c", {m, n + kPad}, 1);
  for (const auto& [alpha, beta] : {std::pair{1.0F, 0.0F}, {1.0F, 1.0F}, {0.5F, 0.25F}}) {
    const Tensor c = Tensor::empty({m, n + kPad}, DType::f32, kCpu);
    copy(before, c);
    if (beta == 0) {  // is not read then
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) c.data<float>()[i * c.size(1) + j] = std::numeric_limits<float>::quiet_NaN();
    }
    cpu::gemm<float>(transpose_a, transpose_b, m, n, k, alpha, a.data<float>(), a.size(1), b.data<float>(), b.size(1),
                     beta, c.data<float>(), c.size(1));
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0, size = 1;
        for (int64_t l = 0; l < k; ++l) {
          const double term = at(a, transpose_a, i, l) * at(b, transpose_b, l, j);
          sum += term;
          size += std::fabs(term);
        }
        const double expected = alpha * sum + beta * static_cast<double>(before.data<float>()[i * c.size(1) + j]);
        // In any order, each of k + 2 sums is rounded to 6e-8 of what has been summed up, at most.
        ASSERT_NEAR(c.data<float>()[i * c.size(1) + j], expected, 6e-8 * static_cast<double>(k + 2) * size)
            << i << ", " << j << ", beta " << beta;
      }
      for (int64_t j = n; j < c.size(1); ++j)
        ASSERT_EQ(c.data<float>()[i * c.size(1) + j], before.data<float>()[i * c.size(1) + j]) << i << ", " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Gemm,
                         testing::Combine(testing::Bool(), testing::Bool(), testing::Values(1, 13, 128, 150),
                                          testing::Values(1, 64, 101), testing::Values(1, 8, 256, 519)));
// Rows of B 4 KiB apart, which all lie in the same sets of a cache; more columns than a block has.
INSTANTIATE_TEST_SUITE_P(SameSets, Gemm,
                         testing::Combine(testing::Bool(), testing::Values(false), testing::Values(15, 130),
                                          testing::Values(1024 - kPad), testing::Values(40, 300)));

}  // namespace
}  // namespace gf
