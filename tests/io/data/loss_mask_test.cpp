// SPDX-License-Identifier: Apache-2.0
#include "io/data/loss_mask.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "io/data/binidx_writer.h"
#include "io/data/token_files.h"
#include "io/data/token_stream.h"
#include "support/binidx_files.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

constexpr int64_t kVocab = 100;

class LossMasks : public testing::Test {
 protected:
  // A data set of the tokens from `first` on, each marked where it is a multiple of `every`.
  std::string data_set(const std::string& name, int first, int count, int every) {
    std::vector<uint16_t> tokens;
    std::string marks;
    for (int i = 0; i < count; ++i) {
      tokens.push_back(static_cast<uint16_t>((first + i) % kVocab));
      marks += (first + i) % every == 0 ? '\1' : '\0';
    }
    write_binidx<uint16_t>(folder_ / name, tokens, 8);
    write_file(LossMask::path_of(folder_ / name), marks);
    return folder_ / name;
  }
  TempFolder folder_;
};

TEST_F(LossMasks, AreReadAndCounted) {
  const BinIdx data(data_set("a", 0, 50, 7));
  const LossMask mask(data);
  std::vector<uint8_t> marks(3);
  mask.read(6, marks);
  EXPECT_EQ(marks, (std::vector<uint8_t>{0, 1, 0}));
  EXPECT_EQ(mask.count(0, 50), 8);
  EXPECT_EQ(mask.count(1, 49), 6);
  EXPECT_EQ(mask.count(3, 3), 0);
}

TEST_F(LossMasks, OfAnotherLengthAreRefused) {
  const std::string prefix = data_set("a", 0, 50, 7);
  for (const size_t length : {0u, 49u, 51u}) {
    write_file(LossMask::path_of(prefix), std::string(length, '\1'));
    expect_refused({prefix + ".mask.bin", cat(length, " bytes"), "50 tokens"},
                   [&] { const LossMask mask{BinIdx(prefix)}; });
  }
  std::filesystem::remove(LossMask::path_of(prefix));
  expect_refused({prefix + ".mask.bin", "No such file"}, [&] { const LossMask mask{BinIdx(prefix)}; });
}

TEST_F(LossMasks, HaveNothingButZeroAndOne) {
  const std::string prefix = data_set("a", 0, 50, 7);
  std::string marks(50, '\0');
  marks[20] = '\xff';
  write_file(LossMask::path_of(prefix), marks);
  const LossMask mask{BinIdx(prefix)};
  EXPECT_EQ(mask.count(0, 20), 0);
  expect_refused({"byte 255 at position 20"}, [&] { mask.count(15, 50); });
}

// As tokens that are gone are, and not the user's wrong input.
TEST_F(LossMasks, ThatBecomeShorterAreNamed) {
  const std::string prefix = data_set("a", 0, 50, 7);
  const LossMask mask{BinIdx(prefix)};
  std::filesystem::resize_file(LossMask::path_of(prefix), 30);
  EXPECT_EQ(mask.count(0, 30), 5);
  expect_error(Exit::failed, {prefix + ".mask.bin has become shorter while in use: 30 bytes, and byte 30"},
               [&] { mask.count(0, 50); });
}

TEST_F(LossMasks, TellOneAnotherApart) {
  const uint64_t one = LossMask(BinIdx(data_set("a", 0, 50, 7))).fingerprint();
  EXPECT_EQ(LossMask(BinIdx(data_set("b", 0, 50, 7))).fingerprint(), one);
  EXPECT_NE(LossMask(BinIdx(data_set("c", 0, 50, 8))).fingerprint(), one);
}

TEST_F(LossMasks, GoAcrossFilesAsTokensDo) {
  const std::vector<std::string> parts{data_set("a", 0, 20, 3), data_set("b", 20, 0, 3), data_set("c", 20, 30, 3)};
  const TokenFiles whole(std::vector{data_set("whole", 0, 50, 3)}, Masked::yes), files(parts, Masked::yes);
  std::vector<uint8_t> got(30), want(30);
  files.read_mask(11, got);
  whole.read_mask(11, want);
  EXPECT_EQ(got, want);
  EXPECT_FALSE(TokenFiles(parts).masked());
}

// Token i is i, so that a target tells whether it should be there.
void expect_marked(const Batch& batch, int every) {
  ASSERT_TRUE(batch.masked);
  const auto *inputs = batch.inputs_BT.data<int32_t>(), *targets = batch.targets_BT.data<int32_t>();
  int64_t counted = 0;
  for (int64_t i = 0; i < batch.inputs_BT.numel(); ++i) {
    const int32_t next = inputs[i] + 1;
    EXPECT_EQ(targets[i], next % every == 0 ? next : kNoTarget) << i;
    counted += next % every == 0;
  }
  EXPECT_EQ(count_targets(batch.targets_BT, true), counted);
}

TEST_F(LossMasks, TakeTargetsOutOfSamplesAndWindows) {
  const std::string prefix = data_set("a", 0, 99, 4);
  const auto data = std::make_shared<TrainingData>(prefix, 8, 0, Masked::yes);
  for (const int rank : {0, 1}) {
    TokenStream stream(data, {.vocab_size = kVocab, .micro_batch = 3, .data_rank = rank, .data_size = 2});
    for (int i = 0; i < 4; ++i) expect_marked(stream.next(), 4);
  }
  const auto files = std::make_shared<TokenFiles>(std::vector{prefix}, Masked::yes);
  const WindowReader windows(files, 9, kVocab);
  const Batch all = windows.batch(0, windows.windows());
  expect_marked(all, 4);
  EXPECT_EQ(windows.count_targets(windows.windows()), count_targets(all.targets_BT, true));
  EXPECT_LT(windows.count_targets(2), windows.count_targets(3));
  EXPECT_FALSE(WindowReader(std::make_shared<TokenFiles>(std::vector{prefix}), 9, kVocab).batch(0, 2).masked);
}

TEST_F(LossMasks, ArePartOfTheOrderOfSamples) {
  const TrainingData data(data_set("a", 0, 99, 4), 8, 0, Masked::yes);
  EXPECT_EQ(data.difference(TrainingData(data_set("b", 0, 99, 4), 8, 0, Masked::yes).identity()), "");
  EXPECT_NE(data.difference(TrainingData(data_set("c", 0, 99, 5), 8, 0, Masked::yes).identity()), "");
}

TEST_F(LossMasks, AreWrittenWithTheirTokens) {
  const std::string prefix = folder_ / "a";
  BinIdxWriter writer(prefix, kVocab, 3, Masked::yes);
  writer.append(std::vector<int32_t>{1, 2, 3, 4}, std::vector<uint8_t>{0, 1, 1, 0});
  writer.end_document();
  writer.append(std::vector<int32_t>{5}, std::vector<uint8_t>{1});
  EXPECT_FALSE(std::filesystem::exists(LossMask::path_of(prefix)));
  writer.finish();
  EXPECT_EQ(writer.marked(), 3);
  EXPECT_EQ(read_file(LossMask::path_of(prefix)), std::string("\0\1\1\0\1", 5));
  EXPECT_EQ(LossMask(BinIdx(prefix)).count(0, 5), 3);
  EXPECT_THROW(BinIdxWriter(prefix, kVocab, 3, Masked::yes).append(std::vector<int32_t>{1}), Error);
  EXPECT_THROW(BinIdxWriter(prefix, kVocab).append(std::vector<int32_t>{1}, std::vector<uint8_t>{1}), Error);
}

TEST_F(LossMasks, AnOldOneGoesWithItsData) {
  const std::string prefix = data_set("a", 0, 50, 7);
  BinIdxWriter writer(prefix, kVocab);
  writer.append(std::vector<int32_t>(50, 1));
  writer.finish();
  EXPECT_FALSE(std::filesystem::exists(LossMask::path_of(prefix)));
}

TEST_F(LossMasks, LeaveADataSetOfTheirNameAlone) {
  const std::string other = data_set("a.mask", 0, 50, 7), bytes = read_file(other + ".bin");
  BinIdxWriter writer(folder_ / "a", kVocab);
  writer.append(std::vector<int32_t>(50, 1));
  writer.finish();
  EXPECT_EQ(read_file(other + ".bin"), bytes);
  expect_refused({other}, [&] { const BinIdxWriter masked(folder_ / "a", kVocab, 10, Masked::yes); });
}

}  // namespace
}  // namespace gf
