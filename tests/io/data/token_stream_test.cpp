// SPDX-License-Identifier: Apache-2.0
#include "io/data/token_stream.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>
#include <set>

#include "support/binidx_files.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

constexpr int64_t kTokens = 5000, kCtx = 8, kVocab = 5000;

// Token i of the data is i, so that a batch shows where it comes from.
class Streams : public ::testing::Test {
 protected:
  Streams() {
    std::vector<uint16_t> tokens(kTokens);
    std::iota(tokens.begin(), tokens.end(), uint16_t{0});
    write_binidx(prefix_, tokens, 8);
    data_ = std::make_shared<TrainingData>(prefix_, kCtx);
    files_ = std::make_shared<TokenFiles>(std::vector{prefix_});
  }
  TokenStream stream(TokenStream::Options options) const { return {data_, options}; }

  TempFolder folder_;
  std::string prefix_ = folder_ / "data";
  std::shared_ptr<const TrainingData> data_;
  std::shared_ptr<const TokenFiles> files_;
};

std::vector<int32_t> values(const Tensor& t) {
  return {t.data<int32_t>(), t.data<int32_t>() + t.numel()};
}

TEST_F(Streams, GivesTheSamplersSamples) {
  TokenStream stream = this->stream({.vocab_size = kVocab, .micro_batch = 3});
  const Sampler sampler(kTokens, kCtx);
  for (int64_t n = 0; n < 20; ++n) {
    EXPECT_EQ(stream.samples_seen(), 3 * n);
    const Batch batch = stream.next();
    ASSERT_EQ(batch.inputs_BT.shape(), (Shape{3, kCtx}));
    ASSERT_EQ(batch.targets_BT.shape(), (Shape{3, kCtx}));
    ASSERT_EQ(batch.samples_B, (std::vector<int64_t>{3 * n, 3 * n + 1, 3 * n + 2}));
    for (int64_t i = 0; i < 3 * kCtx; ++i) {
      const int64_t token = sampler.offset(3 * n + i / kCtx) + i % kCtx;
      ASSERT_EQ(values(batch.inputs_BT)[static_cast<size_t>(i)], token);
      ASSERT_EQ(values(batch.targets_BT)[static_cast<size_t>(i)], token + 1);
    }
  }
}

TEST_F(Streams, AStepsSamplesDoNotDependOnTheRanks) {
  constexpr int64_t kStep = 12, kRow = 2;  // samples in a step, in a microbatch
  for (const int ranks : {1, 2, 3, 6}) {
    std::vector<std::unique_ptr<TokenStream>> streams;
    for (int rank = 0; rank < ranks; ++rank) {
      const TokenStream::Options options{
          .vocab_size = kVocab, .micro_batch = kRow, .data_rank = rank, .data_size = ranks, .samples_seen = 24};
      streams.push_back(std::make_unique<TokenStream>(data_, options));
    }
    for (int64_t step = 0; step < 5; ++step) {
      std::set<int64_t> samples;
      for (int64_t m = 0; m < kStep / kRow / ranks; ++m) {
        for (int rank = 0; rank < ranks; ++rank) {
          const Batch batch = streams[static_cast<size_t>(rank)]->next();
          ASSERT_EQ(batch.samples_B.front(), 24 + step * kStep + (m * ranks + rank) * kRow);
          samples.insert(batch.samples_B.begin(), batch.samples_B.end());
        }
      }
      EXPECT_EQ(samples.size(), kStep);
      EXPECT_EQ(*samples.begin(), 24 + step * kStep);
      EXPECT_EQ(*samples.rbegin(), 24 + (step + 1) * kStep - 1);
      for (const auto& s : streams) EXPECT_EQ(s->samples_seen(), 24 + (step + 1) * kStep);
    }
  }
}

TEST_F(Streams, GoesOnExactlyWhereItStopped) {
  TokenStream whole = stream({.vocab_size = kVocab, .micro_batch = 2});
  for (int i = 0; i < 7; ++i) whole.next();
  TokenStream resumed = stream({.vocab_size = kVocab, .micro_batch = 2, .samples_seen = whole.samples_seen()});
  for (int i = 0; i < 7; ++i) {
    const Batch a = whole.next(), b = resumed.next();
    EXPECT_EQ(a.samples_B, b.samples_B);
    EXPECT_EQ(values(a.inputs_BT), values(b.inputs_BT));
  }
}

TEST_F(Streams, HasNothingBeyondItsEnd) {
  for (const int rank : {0, 1}) {
    TokenStream stream = this->stream({.vocab_size = kVocab,
                                       .micro_batch = 2,
                                       .data_rank = rank,
                                       .data_size = 2,
                                       .samples_seen = 4,
                                       .samples_end = 12});
    stream.next();
    EXPECT_EQ(stream.next().samples_B.back(), 9 + 2 * rank);
    expect_error(Exit::failed, {"after sample 12 of 12"}, [&] { stream.next(); });
  }
}

TEST_F(Streams, EndsAtOnceWhateverItIsDoing) {
  for (int taken = 0; taken < 6; ++taken) {
    TokenStream stream = this->stream({.vocab_size = kVocab, .micro_batch = 1});
    for (int i = 0; i < taken; ++i) stream.next();
  }
}

TEST_F(Streams, AnErrorOfTheThreadComesFromNext) {
  TokenStream stream = this->stream({.vocab_size = 100, .micro_batch = 1});
  const auto until_error = [&] {
    for (int i = 0; i < kTokens; ++i) stream.next();
  };
  expect_refused({"token ", "vocabulary of 100"}, until_error);
  expect_refused({"token ", "vocabulary of 100"}, [&] { stream.next(); });  // and stays
}

TEST_F(Streams, DataThatShrinksEndsTheStream) {
  TokenStream stream = this->stream({.vocab_size = kVocab, .micro_batch = 1});
  stream.next();
  std::filesystem::resize_file(prefix_ + ".bin", 0);
  expect_error(Exit::failed, {"shorter while in use: 0 bytes"}, [&] {
    for (int i = 0; i < 100; ++i) stream.next();
  });
}

TEST_F(Streams, WindowsFollowOneAnother) {
  const WindowReader windows(files_, kCtx, kVocab);
  EXPECT_EQ(windows.windows(), kTokens / (kCtx + 1));
  const Batch batch = windows.batch(4, 3);
  EXPECT_EQ(batch.samples_B, (std::vector<int64_t>{4, 5, 6}));
  ASSERT_EQ(batch.inputs_BT.shape(), (Shape{3, kCtx}));
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t t = 0; t < kCtx; ++t) {
      const auto i = static_cast<size_t>(row * kCtx + t);
      EXPECT_EQ(values(batch.inputs_BT)[i], (4 + row) * (kCtx + 1) + t);
      EXPECT_EQ(values(batch.targets_BT)[i], (4 + row) * (kCtx + 1) + t + 1);
    }
  }
  windows.batch(windows.windows() - 1, 1);
  expect_error(Exit::failed, {"windows 555 + 1 of 555"}, [&] { windows.batch(555, 1); });
  expect_refused({"token 100", "vocabulary of 100"}, [&] { WindowReader(files_, kCtx, 100).batch(0, 20); });
}

TEST_F(Streams, OneWindowIsTheLeast) {
  EXPECT_EQ(WindowReader(files_, kTokens - 1, kVocab).windows(), 1);
  expect_refused({"5000 tokens", "5001"}, [&] { const WindowReader windows(files_, kTokens, kVocab); });
}

}  // namespace
}  // namespace gf
