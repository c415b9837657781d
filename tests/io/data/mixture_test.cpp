// SPDX-License-Identifier: Apache-2.0
#include "io/data/mixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/random.h"
#include "support/expect_error.h"

namespace gf {
namespace {

using Weights = std::vector<double>;
using Counts = std::vector<int64_t>;

// A string of the sources' letters.
std::string first(const Mixture& mixture, int64_t count, int64_t from = 0) {
  std::string out;
  for (int64_t i = from; i < from + count; ++i) out += static_cast<char>('a' + mixture.place(i).source);
  return out;
}

TEST(Mixtures, AreSpreadEvenly) {
  EXPECT_EQ(first(Mixture(Weights{1}), 4), "aaaa");
  EXPECT_EQ(first(Mixture(Weights{1, 1}), 6), "ababab");
  EXPECT_EQ(first(Mixture(Weights{0.7, 0.3}), 10), "abaaabaaba");
  EXPECT_EQ(first(Mixture(Weights{1, 9}), 10), "bbbbabbbbb");
}

// Weights that are whole numbers come out exactly after as many samples as their sum, wherever that is in a run.
TEST(Mixtures, ExactSharesInEveryPeriod) {
  for (const Weights& weights : {Weights{7, 3}, Weights{1, 2, 7}, Weights{5, 3, 2, 90}, Weights{1, 1, 1, 1, 1, 1, 1},
                                 Weights{40, 1, 25, 3, 3, 28}, Weights{1, 999}}) {
    const Mixture mixture(weights);
    const auto period = static_cast<int64_t>(std::accumulate(weights.begin(), weights.end(), 0.0));
    const std::string once = first(mixture, period);
    for (const int64_t start : {int64_t{0}, period, 17 * period, period * int64_t{1'000'000'000}}) {
      EXPECT_EQ(first(mixture, period, start), once);
      Counts counts(weights.size());
      for (int64_t i = start; i < start + period; ++i) ++counts[mixture.place(i).source];
      EXPECT_EQ(Weights(counts.begin(), counts.end()), weights);
      const Counts before = mixture.counts(start), after = mixture.counts(start + period);
      for (size_t s = 0; s < weights.size(); ++s) EXPECT_EQ(after[s] - before[s], counts[s]);
    }
  }
}

TEST(Mixtures, OnlyRatiosCount) {
  const Mixture whole(Weights{1, 2, 7}), tenths(Weights{0.1, 0.2, 0.7}), huge(Weights{1e307, 2e307, 7e307});
  for (const int64_t start : {int64_t{0}, int64_t{1} << 40}) {
    EXPECT_EQ(first(whole, 2000, start), first(tenths, 2000, start));
    EXPECT_EQ(first(whole, 2000, start), first(huge, 2000, start));
  }
}

Weights random_weights(uint64_t seed, size_t count) {
  const Random random(seed, "weights");
  Weights weights(count);
  for (size_t i = 0; i < count; ++i) weights[i] = std::exp(4 * random.uniform(i));  // e^-4 to e^4
  return weights;
}

// What comes of a source is its samples 0, 1, 2, ...: none twice, none left out; and counts() knows how many.
TEST(Mixtures, EachSourceGoesOnWhereItWas) {
  for (const size_t sources : {1, 2, 3, 8, 100}) {
    const Mixture mixture(random_weights(sources, sources));
    Counts next(sources);
    for (int64_t i = 0; i < 20'000; ++i) {
      if (i % 1009 == 0) {
        ASSERT_EQ(mixture.counts(i), next);
      }
      const Mixture::Place place = mixture.place(i);
      ASSERT_EQ(place.sample, next[place.source]++) << i;
    }
  }
}

TEST(Mixtures, AreNeverFarFromTheirShares) {
  std::vector<Weights> all = {{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}, {1, 1e4, 1, 1e4, 1, 1e4, 1}};
  for (uint64_t sources = 2; sources < 100; sources += 7) all.push_back(random_weights(7 * sources, sources));
  for (const Weights& weights : all) {
    const Mixture mixture(weights);
    // A splitting rounds by 0.504 at most, and passes on a part of the error of what it splits. Two splittings in a row
    // leave a half of the samples or less, but for the last: 0.504 (1 + 1 + 1 + 1/2 + 1/2 + 1/4 + 1/4 + ...) < 3.
    for (int64_t n = 1; n < 100'000; n += 1 + n / 200) {
      const Counts counts = mixture.counts(n);
      ASSERT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), n);
      for (size_t s = 0; s < weights.size(); ++s)
        ASSERT_LE(std::fabs(static_cast<double>(counts[s]) - static_cast<double>(n) * mixture.shares()[s]), 3)
            << weights.size() << " sources, " << n << " samples";
    }
  }
}

TEST(Mixtures, FarOutToo) {
  const Mixture mixture(Weights{1, 3});
  constexpr int64_t kFar = int64_t{1} << 60;
  EXPECT_EQ(mixture.counts(kFar), (Counts{kFar / 4, kFar / 4 * 3}));
  EXPECT_EQ(first(mixture, 4, kFar), first(mixture, 4));
  EXPECT_EQ(Mixture(Weights{5}).place(kFar).sample, kFar);
}

TEST(Mixtures, RefuseWeightsThatWouldNeverMatter) {
  expect_refused({"the weight 1e-10 is ", "1e-09"}, [] { const Mixture m(Weights{1, 1e-10}); });
  expect_refused({"the weight 1 is "}, [] { const Mixture m(Weights{1e308, 1, 1e308}); });
  EXPECT_EQ(Mixture(Weights{1, 1e-8}).counts(1'000'000'000)[1], 10);
}

}  // namespace
}  // namespace gf
