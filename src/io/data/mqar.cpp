// SPDX-License-Identifier: Apache-2.0
#include "io/data/mqar.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "io/data/binidx_writer.h"

namespace gf {
namespace {

constexpr double kPower = 0.01;  // of the gaps, as published
constexpr int64_t kLongest = int64_t{1} << 20, kMostExamples = int64_t{1} << 40, kMostTokens = int64_t{1} << 31;

// Random numbers of one example, in the order in which they are asked for.
class Draws {
 public:
  Draws(uint64_t seed, int64_t example) : random_(seed, cat("mqar ", example)) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(random_.bits(next_++) % static_cast<uint64_t>(n)); }
  double unit() { return random_.unit(next_++); }

 private:
  Random random_;
  uint64_t next_ = 0;
};

// Different ones of [begin, end).
std::vector<int64_t> draw_different(Draws& draws, int64_t count, int64_t begin, int64_t end) {
  std::vector<int64_t> all;
  while (std::ssize(all) < count) {
    const int64_t one = begin + draws.below(end - begin);
    if (std::ranges::find(all, one) == all.end()) all.push_back(one);
  }
  return all;
}

// Different ones of [0, weights.size()), in proportion to their weights among those left.
std::vector<int64_t> draw_weighted(Draws& draws, int64_t count, std::vector<double> weights) {
  std::vector<int64_t> all;
  while (std::ssize(all) < count) {
    double left = 0;
    for (const double w : weights) left += w;
    double at = draws.unit() * left;
    int64_t last = -1;  // with a weight: rounding may carry us past the end
    for (int64_t i = 0; i < std::ssize(weights); ++i) {
      const double w = weights[static_cast<size_t>(i)];
      if (w == 0) continue;
      last = i;
      if (at < w) break;
      at -= w;
    }
    weights[static_cast<size_t>(last)] = 0;
    all.push_back(last);
  }
  return all;
}

}  // namespace

void check(const MqarOptions& o) {
  if (o.out.empty()) refuse("no name for the data set", "--out PREFIX");
  if (o.length < 4 || o.length > kLongest || o.length % 2 != 0)
    refuse(cat("--length is ", o.length, " and must be even, from 4 to ", kLongest), "--length 64");
  if (o.pairs < 1 || o.pairs > o.length / 4)
    refuse(cat("--pairs is ", o.pairs, ", and an example of ", o.length, " tokens has room for 1 to ", o.length / 4,
               ": a pair takes two tokens, and two again when asked for"),
           cat("--pairs ", o.length / 4, ", or a greater --length"));
  if (o.vocab_size > kMostTokens || o.vocab_size / 2 - 1 < o.pairs)
    refuse(cat("--vocab-size is ", o.vocab_size, ", and ", o.pairs, " different keys of its lower half without 0 need ",
               2 * o.pairs + 2, " to ", kMostTokens),
           "--vocab-size 8192");
  if (o.examples < 1 || o.examples > kMostExamples)
    refuse(cat("--examples is ", o.examples, " and must be from 1 to ", kMostExamples), "--examples 100000");
}

void make_mqar_example(const MqarOptions& o, int64_t number, std::span<int32_t> tokens, std::span<uint8_t> marks) {
  Draws draws(o.seed, number);
  const int64_t half = o.vocab_size / 2, asked = 2 * o.pairs, places = (o.length - asked) / 2;
  const auto keys = draw_different(draws, o.pairs, 1, half),
             values = draw_different(draws, o.pairs, half, o.vocab_size);
  std::vector<double> weights;
  for (int64_t g = 0; g < places; ++g) weights.push_back(std::pow(static_cast<double>(g + 1), kPower - 1));
  const auto gaps = draw_weighted(draws, o.pairs, std::move(weights));
  std::ranges::fill(tokens, 0);
  std::ranges::fill(marks, uint8_t{0});
  for (size_t i = 0; i < keys.size(); ++i) {
    const size_t again = static_cast<size_t>(asked + 2 * gaps[i]);
    tokens[2 * i] = tokens[again] = static_cast<int32_t>(keys[i]);
    tokens[2 * i + 1] = tokens[again + 1] = static_cast<int32_t>(values[i]);
    marks[again + 1] = 1;
  }
}

void write_mqar(const MqarOptions& o, const std::function<void(int64_t)>& advance) {
  check(o);
  BinIdxWriter writer(o.out, o.vocab_size, BinIdxWriter::kLongestSequence, Masked::yes);
  const auto size = static_cast<size_t>(o.length), step = size + (o.windows ? 1 : 0);
  std::vector<int32_t> tokens(step);
  std::vector<uint8_t> marks(step);
  for (int64_t i = 0; i < o.examples; ++i) {
    make_mqar_example(o, i, std::span(tokens).first(size), std::span(marks).first(size));
    writer.append(tokens, marks);
    writer.end_document();
    advance(1);
  }
  writer.finish();
}

}  // namespace gf
