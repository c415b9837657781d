// SPDX-License-Identifier: Apache-2.0
#include "train/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "support/expect_error.h"

namespace gf {
namespace {

// Logits of given probabilities, and so of any multiple of them.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

// How often each token comes among many draws.
std::vector<double> shares(const std::vector<float>& logits, const Sampling& sampling, int draws = 20000) {
  std::vector<double> share(logits.size());
  const Random random(1, "sampling_test");
  for (int i = 0; i < draws; ++i)
    share[static_cast<size_t>(sample(logits, sampling, random.unit(static_cast<uint64_t>(i))))] += 1.0 / draws;
  return share;
}

// 20000 draws: the standard deviation of a share is at most 0.0036; the draws are always the same ones.
constexpr double kSpread = 0.015;

void expect_shares(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    if (want[i] == 0) {
      EXPECT_EQ(got[i], 0) << "token " << i;
    } else {
      EXPECT_NEAR(got[i], want[i], kSpread) << "token " << i;
    }
  }
}

const std::vector<double> kProbabilities{0.1, 0.4, 0.05, 0.3, 0.15};

TEST(Sampling, DrawsWithTheModelsProbabilities) {
  expect_shares(shares(logits_of(kProbabilities), {}), kProbabilities);
}

TEST(Sampling, ATemperatureSharpensAndFlattens) {
  std::vector<double> squared, rooted;
  double of_squared = 0, of_rooted = 0;
  for (const double p : kProbabilities) of_squared += p * p, of_rooted += std::sqrt(p);
  for (const double p : kProbabilities)
    squared.push_back(p * p / of_squared), rooted.push_back(std::sqrt(p) / of_rooted);
  expect_shares(shares(logits_of(kProbabilities), {.temperature = 0.5}), squared);
  expect_shares(shares(logits_of(kProbabilities), {.temperature = 2}), rooted);
}

TEST(Sampling, TemperatureZeroTakesTheLikeliestAndTheLowestOfEquals) {
  for (const double unit : {0.0, 0.5, 0.999}) {
    EXPECT_EQ(sample(logits_of(kProbabilities), {.temperature = 0}, unit), 1);
    EXPECT_EQ(sample(std::vector<float>{-1, 2, 0, 2}, {.temperature = 0}, unit), 1);
  }
}

TEST(Sampling, AVerySmallTemperatureIsNearlyZero) {
  EXPECT_EQ(sample(logits_of(kProbabilities), {.temperature = 1e-300}, 0.999), 1);
}

TEST(Sampling, TopKKeepsTheLikeliest) {
  expect_shares(shares(logits_of(kProbabilities), {.top_k = 2}), {0, 4.0 / 7, 0, 3.0 / 7, 0});
  expect_shares(shares(logits_of(kProbabilities), {.top_k = 1}), {0, 1, 0, 0, 0});
  expect_shares(shares(logits_of(kProbabilities), {.top_k = 99}), kProbabilities);
  // Of equals the lower ones.
  expect_shares(shares(std::vector<float>(5, 0.0f), {.top_k = 2}), {0.5, 0.5, 0, 0, 0});
}

TEST(Sampling, TopPKeepsTheFewestThatReachIt) {
  expect_shares(shares(logits_of(kProbabilities), {.top_p = 0.3}), {0, 1, 0, 0, 0});
  expect_shares(shares(logits_of(kProbabilities), {.top_p = 0.6}), {0, 4.0 / 7, 0, 3.0 / 7, 0});
  expect_shares(shares(logits_of(kProbabilities), {.top_p = 0.8}), {0, 8.0 / 17, 0, 6.0 / 17, 3.0 / 17});
  expect_shares(shares(logits_of(kProbabilities), {.top_p = 1e-9}), {0, 1, 0, 0, 0});
}

// top_p looks at the probabilities of what top_k left, at the temperature: 0.4 and 0.3 become 16/25 and 9/25.
TEST(Sampling, TopPComesAfterTopKAndTemperature) {
  expect_shares(shares(logits_of(kProbabilities), {.temperature = 0.5, .top_p = 0.63, .top_k = 2}), {0, 1, 0, 0, 0});
  expect_shares(shares(logits_of(kProbabilities), {.temperature = 0.5, .top_p = 0.65, .top_k = 2}),
                {0, 16.0 / 25, 0, 9.0 / 25, 0});
}

// All tokens sorted, and then one filter after the other, as the header says it.
int32_t plainly(const std::vector<float>& logits, const Sampling& s, double unit) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](int32_t token) { return static_cast<double>(logits[static_cast<size_t>(token)]); };
  std::ranges::stable_sort(order, std::ranges::greater{}, logit);
  if (s.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(s.top_k)));
  const auto weight = [&, top = order[0]](int32_t token) {
    return std::exp((logit(token) - logit(top)) / s.temperature);
  };
  double total = 0;
  for (const int32_t token : order) total += weight(token);
  size_t kept = 0;
  double mass = 0;
  while (kept < order.size() && mass < s.top_p * total) mass += weight(order[kept++]);
  if (s.top_p < 1)
    order.resize(kept);
  else if (order.size() == logits.size())
    std::ranges::sort(order);  // all are drawn as they come
  std::erase_if(order, [&](int32_t token) { return weight(token) < s.min_p; });
  double sum = 0;
  for (const int32_t token : order) sum += weight(token);
  const double drawn = unit * sum;
  sum = 0;
  for (const int32_t token : order)
    if ((sum += weight(token)) > drawn) return token;
  return -1;
}

// Few and many tokens, many of them equal or all different, flat and steep: a part of the order is as good as all of
// it.
TEST(Sampling, DrawsWhatAWholeSortedVocabularyWould) {
  for (uint64_t i = 0; i < 3000; ++i) {
    const Random random(i, "sampling_test");
    const auto n = static_cast<size_t>(1 + random.bits(0) % (i % 10 == 0 ? 5000 : 300));
    std::vector<float> logits;
    for (uint64_t k = 0; k < n; ++k) {
      const double x = 8 * random.uniform(100 + k);
      logits.push_back(static_cast<float>(i % 2 == 0 ? x : std::round(x)));
    }
    const auto one_of = [&](uint64_t at, const std::vector<double>& values) {
      return values[random.bits(at) % values.size()];
    };
    const Sampling s{.temperature = one_of(1, {0.2, 1, 3, 1e6}),
                     .top_p = one_of(2, {1e-9, 0.3, 0.9, 0.999, 1}),
                     .top_k = static_cast<int64_t>(one_of(3, {0, 0, 1, 64, 65, 200, 100000})),
                     .min_p = one_of(4, {0, 0, 0.01, 1})};
    const double unit = random.unit(5);
    ASSERT_EQ(sample(logits, s, unit), plainly(logits, s, unit))
        << i << ": " << n << " tokens, temperature " << s.temperature << ", top_p " << s.top_p << ", top_k " << s.top_k
        << ", min_p " << s.min_p;
  }
}

TEST(Sampling, MinPKeepsWhatIsNearTheLikeliest) {
  const auto logits = logits_of({0.4, 0.3, 0.2, 0.1});
  expect_shares(shares(logits, {.min_p = 0.45}), {0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9, 0});
  expect_shares(shares(logits, {.min_p = 1}), {1, 0, 0, 0});
}

TEST(Penalties, MakeWhatWasThereLessLikely) {
  const std::vector<float> logits{2, -2, 2, 2};
  TokenCounts before;
  before.add(std::vector<int32_t>{0, 1, 2});
  PenalisedLogits none({}, before);
  EXPECT_EQ(none.of(logits).data(), logits.data());
  PenalisedLogits all({.repetition = 2, .presence = 0.5, .frequency = 0.25}, before);
  all.add(std::vector<int32_t>{2, 1});
  const auto got = all.of(logits);
  // Once: 2 / 2 - 0.5 - 0.25. Twice: -2 * 2 - 0.5 - 2 * 0.25, and 2 / 2 less that; the last as it was.
  EXPECT_EQ(std::vector<float>(got.begin(), got.end()), (std::vector<float>{0.25, -5, 0, 2}));
}

// A logit is far below 1e30 in anything that can be called a model.
TEST(Penalties, NeverMakeAFiniteLogitInfinite) {
  constexpr double kMost = Penalties::kMost;
  const std::vector<float> logits{1e30f, -1e30f, 1};
  for (const double repetition : {1 / kMost, kMost})
    for (const double other : {-kMost, kMost}) {
      const Penalties p{.repetition = repetition, .presence = other, .frequency = other};
      EXPECT_NO_THROW(check(p));
      TokenCounts often;
      for (const int32_t token : {0, 1, 2}) often.add(token, int64_t{1} << 60);
      PenalisedLogits penalised(p, often);
      for (const float x : penalised.of(logits)) EXPECT_TRUE(std::isfinite(x)) << repetition << other;
    }
}

TEST(Penalties, OutOfRangeAreRefused) {
  for (const double x : {0.0, -1.0, 1e-300, 1e7})
    expect_refused({"--repetition-penalty", cat(x)}, [&] { check(Penalties{.repetition = x}); });
  expect_refused({"--presence-penalty", "1e+39"}, [] { check(Penalties{.presence = 1e39}); });
  expect_refused({"--frequency-penalty", "-1e+308"}, [] { check(Penalties{.frequency = -1e308}); });
  expect_refused({"--presence-penalty", "inf"},
                 [] { check(Penalties{.presence = std::numeric_limits<double>::infinity()}); });
  expect_refused({"--frequency-penalty", "nan"},
                 [] { check(Penalties{.frequency = std::numeric_limits<double>::quiet_NaN()}); });
  expect_refused({"--min-p", "1.5"}, [] { check(Sampling{.min_p = 1.5}); });
}

TEST(Sampling, TheLargestRandomNumberNeverDrawsWhatCannotCome) {
  const double largest = std::nextafter(1.0, 0.0);
  EXPECT_EQ(sample(std::vector<float>{0, 0, -1e5f}, {}, largest), 1);  // exp(-1e5) is 0
  EXPECT_EQ(sample(std::vector<float>{-1e5f, 0, 0}, {}, 0), 1);
}

TEST(Sampling, LogitsThatAreNotFiniteAreAnError) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    const Sampling s{.temperature = temperature};
    expect_error(Exit::failed, {"token 1", "nan"}, [&] { sample(std::vector<float>{0, kNan}, s, 0); });
    expect_error(Exit::failed, {"token 0", "inf"}, [&] { sample(std::vector<float>{kInfinity, 1}, s, 0); });
  }
}

TEST(Sampling, SettingsOutOfRangeAreRefused) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();
  for (const double t : {-0.1, kNan, kInfinity})
    expect_refused({"--temperature", cat(t)}, [&] { check({.temperature = t}); });
  for (const double p : {0.0, -1.0, 1.01, kNan}) expect_refused({"--top-p", cat(p)}, [&] { check({.top_p = p}); });
  expect_refused({"--top-k", "-1"}, [] { check({.top_k = -1}); });
  EXPECT_NO_THROW(check({.temperature = 0, .top_p = 1, .top_k = 0}));
}

}  // namespace
}  // namespace gf
