// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/few_rows.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/hashed.h"
#include "tensor/arithmetic.h"
#include "tensor/float_formats.h"

namespace gf {
namespace {

// In double, from the definition.
double product(const Tensor& a, const Tensor& w, int64_t row, int64_t col) {
  double sum = 0;
  for (int64_t i = 0; i < w.size(1); ++i) {
    const double x = w.dtype() == DType::bf16 ? float_from_bf16(w.data<BFloat16>()[col * w.size(1) + i].bits)
                                              : w.data<float>()[col * w.size(1) + i];
    sum += static_cast<double>(a.data<float>()[row * w.size(1) + i]) * x;
  }
  return sum;
}

// Sums of k terms up to 1, each to 6e-8.
double tolerance(int64_t k) {
  return 6e-8 * static_cast<double>(k);
}

TEST(FewRows, AgreeWithTheDefinition) {
  for (const int64_t k : {1, 15, 16, 100, 771})
    for (int64_t m = 1; m <= cpu::kFewRows; ++m) {
      const int64_t n = 37;
      const Tensor a = hashed<float>("a", {m, k}, 1), w = hashed<float>("w", {n, k}, 1);
      const Tensor c = Tensor::zeros({m, n}, DType::f32, kCpu);
      fill(c, 2);
      cpu::few_rows(m, n, k, a.data<float>(), k, w.data<float>(), k, true, c.data<float>(), n);
      for (int64_t r = 0; r < m; ++r)
        for (int64_t j = 0; j < n; ++j)
          ASSERT_NEAR(c.data<float>()[r * n + j], 2 + product(a, w, r, j), tolerance(k + 2)) << m << " " << k;
    }
}

// Also more rows than few, and more columns than a part.
TEST(FewRows, ABf16MatrixIsTheFloatsThatItRoundsTo) {
  for (const int64_t m : {1, 3, 8, 9, 70}) {
    const int64_t n = 150, k = 100;
    const Tensor a = hashed<float>("a", {m, k}, 1), w = Tensor::empty({n, k}, DType::bf16, kCpu);
    convert(hashed<float>("w", {n, k}, 1), w);
    const Tensor c = Tensor::zeros({m, n}, DType::f32, kCpu);
    cpu::narrow_product(m, n, k, a.data<float>(), k, w.data<BFloat16>(), k, false, c.data<float>(), n);
    for (int64_t r = 0; r < m; ++r)
      for (int64_t j = 0; j < n; ++j) ASSERT_NEAR(c.data<float>()[r * n + j], product(a, w, r, j), tolerance(k)) << m;
  }
}

// One row alone gives the bits that it gives beside others, so that decoding does not depend on company.
TEST(FewRows, ARowHasTheSameBitsAlone) {
  const int64_t n = 20, k = 333;
  const Tensor a = hashed<float>("a", {8, k}, 1), w = hashed<float>("w", {n, k}, 1);
  const Tensor all = Tensor::zeros({8, n}, DType::f32, kCpu), one = Tensor::zeros({1, n}, DType::f32, kCpu);
  cpu::few_rows(8, n, k, a.data<float>(), k, w.data<float>(), k, false, all.data<float>(), n);
  for (int64_t r = 0; r < 8; ++r) {
    cpu::few_rows(1, n, k, a.data<float>() + r * k, k, w.data<float>(), k, false, one.data<float>(), n);
    for (int64_t j = 0; j < n; ++j) ASSERT_EQ(one.data<float>()[j], all.data<float>()[r * n + j]) << r;
  }
}

}  // namespace
}  // namespace gf
