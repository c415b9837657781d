// SPDX-License-Identifier: Apache-2.0
#include "io/data/mqar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "io/data/loss_mask.h"
#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

struct Example {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> marks;
};

Example example(const MqarOptions& o, int64_t number) {
  Example e{std::vector<int32_t>(static_cast<size_t>(o.length), -7),
            std::vector<uint8_t>(static_cast<size_t>(o.length), 7)};
  make_mqar_example(o, number, e.tokens, e.marks);
  return e;
}

// What the task says of every example: different keys, each once more with its own value, and nothing else.
void expect_recall(const MqarOptions& o, const Example& e) {
  std::map<int32_t, int32_t> value_of;
  std::set<int32_t> values;
  const auto asked = static_cast<size_t>(2 * o.pairs);
  for (size_t i = 0; i < asked; i += 2) {
    const int32_t key = e.tokens[i], value = e.tokens[i + 1];
    EXPECT_TRUE(key >= 1 && key < o.vocab_size / 2) << key;
    EXPECT_TRUE(value >= o.vocab_size / 2 && value < o.vocab_size) << value;
    EXPECT_TRUE(value_of.emplace(key, value).second && values.insert(value).second) << "twice";
    EXPECT_EQ(e.marks[i] + e.marks[i + 1], 0);
  }
  for (size_t i = asked; i + 1 < e.tokens.size(); i += 2) {
    const auto found = value_of.find(e.tokens[i]);
    EXPECT_EQ(e.marks[i], 0);
    EXPECT_EQ(e.marks[i + 1], found != value_of.end());
    if (found == value_of.end()) {
      EXPECT_EQ(e.tokens[i], 0);
      EXPECT_EQ(e.tokens[i + 1], 0);
      continue;
    }
    EXPECT_EQ(e.tokens[i + 1], found->second);
    value_of.erase(found);
  }
  EXPECT_TRUE(value_of.empty()) << "a key is not asked for";
}

TEST(Mqar, AsksForEachKeyOnce) {
  for (const auto& [length, pairs] : {std::pair{64, 4}, {128, 8}, {16, 4}, {4, 1}, {512, 64}})
    for (int64_t i = 0; i < 20; ++i) {
      const MqarOptions o{.length = length, .pairs = pairs, .seed = 5};
      expect_recall(o, example(o, i));
    }
  const MqarOptions all_keys{.vocab_size = 10, .length = 16, .pairs = 4};
  expect_recall(all_keys, example(all_keys, 0));
}

TEST(Mqar, DependsOnSeedAndNumberAlone) {
  const MqarOptions o{.seed = 1}, other{.seed = 2};
  EXPECT_EQ(example(o, 3).tokens, example(o, 3).tokens);
  EXPECT_NE(example(o, 3).tokens, example(o, 4).tokens);
  EXPECT_NE(example(o, 3).tokens, example(other, 3).tokens);
}

// One pair: gap g has the weight (g + 1)^-0.99. Of 20000 draws a share p is seen within 5 standard deviations.
TEST(Mqar, AsksSoonerMoreOftenThanLater) {
  const MqarOptions o{.length = 22, .pairs = 1};
  constexpr int64_t kDraws = 20000;
  std::vector<double> seen(10), weights;
  double sum = 0;
  for (int g = 0; g < 10; ++g) weights.push_back(std::pow(g + 1, -0.99)), sum += weights.back();
  for (int64_t i = 0; i < kDraws; ++i) {
    const Example e = example(o, i);
    for (size_t g = 0; g < 10; ++g) seen[g] += e.marks[2 + 2 * g + 1];
  }
  for (size_t g = 0; g < 10; ++g) {
    const double p = weights[g] / sum, deviation = std::sqrt(p * (1 - p) * kDraws);
    EXPECT_NEAR(seen[g], p * kDraws, 5 * deviation) << "gap " << g;
  }
}

TEST(Mqar, AreDocumentsWithAMask) {
  const TempFolder folder;
  MqarOptions o{.length = 16, .pairs = 2, .examples = 30, .seed = 9, .out = folder / "train"};
  int64_t told = 0;
  write_mqar(o, [&](int64_t n) { told += n; });
  EXPECT_EQ(told, 30);
  const BinIdx train(o.out);
  EXPECT_EQ(train.documents(), 30);
  EXPECT_EQ(train.tokens(), 30 * 16);
  EXPECT_EQ(LossMask(train).count(0, train.tokens()), 60);
  o.windows = true, o.out = folder / "windows";
  write_mqar(o, [](int64_t) {});
  const BinIdx windows(o.out);
  EXPECT_EQ(windows.tokens(), 30 * 17);
  for (int64_t i = 0; i < 30; ++i) {
    std::vector<int32_t> a(16), b(17);
    train.read(i * 16, a);
    windows.read(i * 17, b);
    EXPECT_EQ(b.back(), 0);
    b.pop_back();
    EXPECT_EQ(a, b);
  }
}

TEST(Mqar, RefusesWhatHasNoRoom) {
  const auto refused = [](const std::vector<std::string>& pieces, const MqarOptions& o) {
    expect_refused(pieces, [&] { check(o); });
  };
  const MqarOptions good{.examples = 1, .out = "x"};
  check(good);
  MqarOptions o = good;
  o.pairs = 17, refused({"--pairs is 17", "64 tokens", "16"}, o);
  o.pairs = 0, refused({"--pairs is 0"}, o);
  o = good, o.length = 63, refused({"--length is 63"}, o);
  o = good, o.length = 2, refused({"--length is 2"}, o);
  o = good, o.vocab_size = 9, refused({"--vocab-size is 9", "10"}, o);
  o = good, o.examples = 0, refused({"--examples is 0"}, o);
  o = good, o.out = "", refused({"--out"}, o);
}

}  // namespace
}  // namespace gf
