// SPDX-License-Identifier: Apache-2.0
// Products on a GPU: of shapes that the library does not take, and how its algorithms are chosen.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "base/random.h"
#include "ops/cuda/gemm.h"
#include "ops/cuda/product_choices.h"
#include "support/bits.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

TEST(ProductChoices, ALineIsForOneProductOnOneMachine) {
  ProductChoices first("a GPU, version 1", "");
  EXPECT_EQ(first.take_added(), "");
  first.add("2 x 3", {1, 2, ~uint64_t{0}});
  first.add("3 x 4", {5});
  const std::string lines = first.take_added();
  EXPECT_EQ(first.take_added(), "");
  ProductChoices next("a GPU, version 1", "not a line\na GPU, version 1\t2 x 3\tff\n" + lines + lines);
  EXPECT_EQ(next.find("2 x 3"), (ProductChoices::Algorithm{1, 2, ~uint64_t{0}}));
  EXPECT_EQ(next.find("3 x 4"), ProductChoices::Algorithm{5});
  EXPECT_EQ(next.find("4 x 5"), std::nullopt);
  EXPECT_EQ(next.take_added(), "");
  EXPECT_EQ(ProductChoices("a GPU, version 2", lines).find("2 x 3"), std::nullopt);
}

#ifdef GF_WITH_CUDA
constexpr Device kGpu{Device::Kind::cuda, 0};

Tensor hashed(const char* name, int64_t n) {
  const Random random(1, name);
  Tensor t = Tensor::empty({n}, DType::f32, kCpu);
  for (int64_t i = 0; i < n; ++i) t.data<float>()[i] = static_cast<float>(random.uniform(static_cast<uint64_t>(i)));
  return t;
}

Tensor halves(const char* name, int64_t n) {
  const Tensor there = on(kGpu, hashed(name, n)), rounded = Tensor::empty({n}, DType::bf16, kGpu);
  convert(there, rounded);
  return rounded;
}

Tensor wide(const Tensor& t) {
  const Tensor here = on(kCpu, t), all = Tensor::empty(here.shape(), DType::f32, kCpu);
  convert(here, all);
  return all;
}

// Rows that begin anywhere, as of a vocabulary of 33: the library wants 4 bytes.
TEST(ProductsOnGpu, OddShapesInBf16) {
  constexpr int64_t m = 37, n = 33, k = 71, count = 2;
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const cuda::GemmShape shape{ta, tb, m, n, k, ta ? m : k, tb ? k : n, n};
      const Tensor a = halves("a", count * m * k), b = halves("b", count * k * n), c = halves("c", count * m * n);
      const Tensor a_here = wide(a), b_here = wide(b), c_here = wide(c);
      cuda::batched_gemm(cuda::current_stream(), shape, {count, m * k, k * n, m * n}, 0.5F, a.data<BFloat16>(),
                         b.data<BFloat16>(), 2.F, c.data<BFloat16>());
      const Tensor got = wide(c);
      for (int64_t batch = 0; batch < count; ++batch)
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) {
            double want = 2 * static_cast<double>(c_here.data<float>()[(batch * m + i) * n + j]);
            for (int64_t p = 0; p < k; ++p)
              want += 0.5 * static_cast<double>(a_here.data<float>()[batch * m * k + (ta ? p * m + i : i * k + p)]) *
                      static_cast<double>(b_here.data<float>()[batch * k * n + (tb ? j * k + p : p * n + j)]);
            // Rounded to 8 bits, after 71 sums in float.
            ASSERT_NEAR(got.data<float>()[(batch * m + i) * n + j], want, std::fabs(want) / 256 + 1e-5)
                << ta << tb << " " << batch << " " << i << " " << j;
          }
    }
  }
}

TEST(ProductsOnGpu, AnEmptySumIsZero) {
  const Tensor c = on(kGpu, hashed("c", 6));
  cuda::gemm(cuda::current_stream(), {false, false, 2, 3, 0, 1, 3, 3}, 1.F, c.data<float>(), c.data<float>(), 0.F,
             c.data<float>());
  EXPECT_EQ(sum_of_squares(c), 0);
}

// A later run does as it is told, and the result is where it was to go, once, however often it was timed.
TEST(ProductsOnGpu, WhatWasChosenIsLeftToTheNextRun) {
  constexpr int64_t n = 64;
  const Tensor a = on(kGpu, hashed("a", n * n)), b = on(kGpu, hashed("b", n * n)), start = hashed("c", n * n);
  const auto sum = [&] {
    const Tensor c = on(kGpu, start);
    cuda::gemm(cuda::current_stream(), {false, true, n, n, n, n, n, n}, 1.F, a.data<float>(), b.data<float>(), 1.F,
               c.data<float>());
    return on(kCpu, c);
  };
  // Each in a thread of its own: what is known is kept by threads.
  const auto in_thread = [](const auto& body) { std::jthread(body).join(); };
  Tensor plain;
  in_thread([&] {
    plain = sum();
    EXPECT_EQ(cuda::take_product_choices(), "");
  });
  std::string lines;
  in_thread([&] {
    cuda::choose_fastest_products("");
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(same_bits(sum(), plain));
    lines = cuda::take_product_choices();
    EXPECT_EQ(std::ranges::count(lines, '\n'), 1) << lines;
  });
  in_thread([&] {
    cuda::choose_fastest_products(lines);
    EXPECT_TRUE(same_bits(sum(), plain));
    EXPECT_EQ(cuda::take_product_choices(), "");
  });
  // What the library does not know as one of its own is found out anew.
  in_thread([&] {
    std::string damaged = lines;
    damaged.replace(damaged.find_last_of('\t') + 1, 16, 16, '0');
    cuda::choose_fastest_products(damaged);
    EXPECT_TRUE(same_bits(sum(), plain));
    EXPECT_NE(cuda::take_product_choices(), "");
  });
}
#endif

}  // namespace
}  // namespace gf
