// SPDX-License-Identifier: Apache-2.0
#include "io/data/training_data.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "io/data/token_stream.h"
#include "support/binidx_files.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

constexpr int64_t kCtx = 8, kVocab = 1 << 20;

// Every token of all files is another, so that a sample shows where it comes from.
class Training : public ::testing::Test {
 protected:
  std::string add(const char* name, int64_t count) {
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    std::iota(tokens.begin(), tokens.end(), next_);
    next_ += static_cast<int32_t>(count);
    write_binidx(folder_ / name, tokens, 4);
    return folder_ / name;
  }
  static DataList list(const std::string& text) {
    DataList list;
    list.set({.path = "train.data_file", .text = text});
    return list;
  }
  static std::vector<int32_t> sample(const TrainingData& data, int64_t i) {
    std::vector<int32_t> tokens(kCtx + 1);
    data.read(i, tokens, kVocab);
    return tokens;
  }
  // What a sample that begins with this token looks like.
  static std::vector<int32_t> from(int32_t token) {
    std::vector<int32_t> tokens(kCtx + 1);
    std::iota(tokens.begin(), tokens.end(), token);
    return tokens;
  }

  TempFolder folder_;
  int32_t next_ = 0;
  const std::string a_ = add("a", 1003), b_ = add("b", 4), c_ = add("c", 2000), d_ = add("d", 500);
  const std::string mixed_ = cat("[{prefix: [", a_, ", ", b_, "], weight: 0.5}, {prefix: ", c_,
                                 ", weight: 0.2}, {prefix: ", d_, ", weight: 0.3}]");
};

TEST_F(Training, OnePrefixHasThePublishedOrder) {
  const TrainingData data(c_, kCtx);
  const Sampler sampler(2000, kCtx);
  EXPECT_EQ(data.tokens_per_pass(), sampler.tokens_per_pass());
  for (int64_t i = 0; i < 300; ++i) ASSERT_EQ(sample(data, i), from(static_cast<int32_t>(1007 + sampler.offset(i))));
}

// Samples go across the ends of files: of 4 tokens, one has three parts.
TEST_F(Training, AListHasTheOrderOfItsFilesJoined) {
  const TrainingData data(list(cat("[", a_, ", ", b_, ", ", c_, ", ", d_, "]")), kCtx);
  EXPECT_EQ(data.tokens(), 3507);
  EXPECT_EQ(data.documents(), 4);
  EXPECT_EQ(data.files(), 4);
  const Sampler sampler(3507, kCtx);
  EXPECT_EQ(data.sources()[0].sampler.magic_prime(), sampler.magic_prime());
  int crossing = 0;
  for (int64_t i = 0; i < sampler.magic_prime() + 20; ++i) {
    const auto begin = static_cast<int32_t>(sampler.offset(i));
    ASSERT_EQ(sample(data, i), from(begin));
    crossing += begin < 1003 && begin + kCtx >= 1007;
  }
  EXPECT_GE(crossing, 1);
}

TEST_F(Training, AMagicPrimeMayBeGivenWithoutWeights) {
  const DataList joined = list(cat("[", a_, ", ", c_, "]"));
  EXPECT_EQ(TrainingData(joined, 1, 2969).sources()[0].sampler.magic_prime(), 2969);
  expect_refused({"train.magic_prime 2970 is not a prime"}, [&] { const TrainingData data(joined, 1, 2970); });
}

// Of each source, in its turns, the samples that it would give alone.
TEST_F(Training, WeightedSourcesKeepTheirOwnOrder) {
  const TrainingData data(list(mixed_), kCtx);
  const int32_t begins[] = {0, 1007, 3007};
  const Sampler samplers[] = {Sampler(1007, kCtx), Sampler(2000, kCtx), Sampler(500, kCtx)};
  EXPECT_EQ(data.tokens_per_pass(),
            samplers[0].tokens_per_pass() + samplers[1].tokens_per_pass() + samplers[2].tokens_per_pass());
  int64_t seen[] = {0, 0, 0};
  for (int64_t i = 0; i < 5000; ++i) {
    const std::vector<int32_t> tokens = sample(data, i);
    const size_t source = tokens[0] < 1007 ? 0 : tokens[0] < 3007 ? 1 : 2;
    ASSERT_EQ(tokens, from(static_cast<int32_t>(begins[source] + samplers[source].offset(seen[source])))) << i;
    ++seen[source];
    if ((i + 1) % 10 == 0) {
      ASSERT_EQ(seen[0], (i + 1) / 10 * 5);
      ASSERT_EQ(seen[1], (i + 1) / 10 * 2);
    }
  }
}

std::vector<int32_t> rows(const Batch& batch, int64_t row) {
  const int32_t *inputs = batch.inputs_BT.data<int32_t>() + row * kCtx,
                *targets = batch.targets_BT.data<int32_t>() + row * kCtx;
  std::vector<int32_t> tokens(inputs, inputs + kCtx);
  tokens.push_back(targets[kCtx - 1]);
  return tokens;
}

// From any step on, on any number of data ranks: the samples that one rank has that never stopped.
TEST_F(Training, TheRanksOfAMixtureTogetherReadItsSamples) {
  const auto data = std::make_shared<TrainingData>(list(mixed_), kCtx);
  constexpr int64_t kRow = 2, kStep = 12;
  for (const int ranks : {1, 2, 3, 6}) {
    for (const int64_t start : {int64_t{0}, 7 * kStep, kStep << 40}) {
      for (int rank = 0; rank < ranks; ++rank) {
        TokenStream stream(
            data,
            {.vocab_size = kVocab, .micro_batch = kRow, .data_rank = rank, .data_size = ranks, .samples_seen = start});
        for (int64_t m = 0; m < 3 * kStep / kRow / ranks; ++m) {
          const Batch batch = stream.next();
          for (int64_t row = 0; row < kRow; ++row) {
            const int64_t i = start + (m * ranks + rank) * kRow + row;
            ASSERT_EQ(batch.samples_B[static_cast<size_t>(row)], i);
            ASSERT_EQ(rows(batch, row), sample(*data, i));
          }
        }
      }
    }
  }
}

TEST_F(Training, ASourceTooShortIsNamed) {
  expect_refused({d_ + ": the data has 500 tokens, and ctx_len 300 needs at least 601"},
                 [&] { const TrainingData data(list(mixed_), 300); });
  expect_refused({"the data has 1007 tokens, and ctx_len 504 needs"},
                 [&] { const TrainingData data(list(cat("[", a_, ", ", b_, "]")), 504); });
}

TEST_F(Training, TokensOfEveryFileAreLookedAt) {
  const TrainingData data(list(mixed_), kCtx);
  data.check_tokens(0, 4000);
  // No sample is looked at here that has such a token, but the beginning of d has.
  expect_refused({d_ + ".bin: token 3007 at position 0", "vocabulary of 3007"}, [&] { data.check_tokens(0, 3007); });
}

TEST_F(Training, TheIdentityTellsWhatIsAnother) {
  const TrainingData data(list(mixed_), kCtx);
  const auto differs = [&](const std::string& text) {
    return TrainingData(list(text), kCtx).difference(data.identity());
  };
  const auto mixed = [](const std::string& one, double w1, const std::string& two, double w2) {
    return cat("[{prefix: ", one, ", weight: ", w1, "}, {prefix: ", two, ", weight: ", w2, "}]");
  };
  EXPECT_EQ(differs(mixed_), "");
  EXPECT_EQ(differs(cat("[{prefix: [", a_, ", ", b_, "], weight: 5}, {prefix: ", c_, ", weight: 2}, {prefix: ", d_,
                        ", weight: 3}]")),
            "");
  const std::string weight = differs(
      cat("[{prefix: [", a_, ", ", b_, "], weight: 5}, {prefix: ", c_, ", weight: 3}, {prefix: ", d_, ", weight: 2}]"));
  EXPECT_TRUE(weight.starts_with(cat("file 3, ", c_, ", is 2000 tokens, fingerprint "))) << weight;
  EXPECT_NE(weight.find("in source 2 with a share of 0.3, and was 2000 tokens"), std::string::npos) << weight;
  EXPECT_TRUE(weight.ends_with("in source 2 with a share of 0.2")) << weight;
  EXPECT_NE(differs(cat("[", a_, ", ", b_, ", ", c_, ", ", d_, "]")), "") << "the same files without weights";
  EXPECT_NE(differs(mixed(a_, 1, c_, 1)), "");

  // The other identity stands in a checkpoint, where anything may be written.
  const std::string foreign = data.difference("\x1b[2J" + std::string(100'000, 'x'));
  EXPECT_NE(foreign.find(", and was ?[2Jxxx"), std::string::npos) << foreign.substr(0, 500);
  EXPECT_LT(foreign.size(), a_.size() + 600);

  const TrainingData two(list(cat("[", a_, ", ", c_, "]")), kCtx);
  EXPECT_EQ(TrainingData(list(cat("[", a_, ", ", c_, ", ", d_, "]")), kCtx).difference(two.identity()),
            "there are 3 files, and were 2");
  EXPECT_TRUE(TrainingData(list(cat("[", c_, ", ", a_, "]")), kCtx).difference(two.identity()).starts_with("file 1, "));
}

TEST_F(Training, TheIdentityIsThatOfTheFilesNotOfTheirNames) {
  const TrainingData data(list(cat("[", a_, ", ", c_, "]")), kCtx);
  for (const char* part : {".idx", ".bin"}) std::filesystem::rename(a_ + part, a_ + "_moved" + part);
  EXPECT_EQ(TrainingData(list(cat("[", a_, "_moved, ", c_, "]")), kCtx).difference(data.identity()), "");
}

}  // namespace
}  // namespace gf
