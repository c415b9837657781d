// SPDX-License-Identifier: Apache-2.0
#include "io/data/token_files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <numeric>

#include "base/clock.h"
#include "support/binidx_files.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

using Prefixes = std::vector<std::string>;

// Files of every type, of 0 to 9000 tokens, and the same tokens in one.
class ManyFiles : public ::testing::Test {
 protected:
  ManyFiles() {
    add<uint16_t>("a", 700, 8);
    add<uint8_t>("b", 9000, 1);  // more than one buffer of the reader
    add<int8_t>("c", 1, 2);
    add<int16_t>("empty", 0, 3);
    add<int16_t>("d", 40, 3);
    add<int32_t>("e", 333, 4);
    add<int64_t>("f", 5, 5);
    add<uint16_t>("none", 0, 8);
    write_binidx(folder_ / "joined", joined_, 8);
  }
  template <class T>
  void add(const char* name, size_t count, uint8_t dtype) {
    std::vector<T> tokens(count);
    for (T& token : tokens) joined_.push_back(static_cast<uint16_t>(token = static_cast<T>(joined_.size() % 127)));
    prefixes_.push_back(folder_ / name);
    write_binidx(prefixes_.back(), tokens, dtype);
  }

  TempFolder folder_;
  Prefixes prefixes_;
  std::vector<uint16_t> joined_;
};

TEST_F(ManyFiles, AreReadAsOne) {
  const TokenFiles files(prefixes_);
  const BinIdx joined(folder_ / "joined");
  ASSERT_EQ(files.tokens(), joined.tokens());
  EXPECT_EQ(files.tokens(), 700 + 9000 + 1 + 40 + 333 + 5);
  EXPECT_EQ(files.documents(), 8);
  EXPECT_EQ(files.sequences(), 8);
  EXPECT_EQ(files.name(), prefixes_[0] + " and 7 more");
  for (const int64_t length : {1, 2, 17, 64, 1000, 9500}) {
    std::vector<int32_t> got(static_cast<size_t>(length)), want = got;
    // Every place near an end, and every so many of the others.
    for (int64_t begin = 0; begin + length <= files.tokens(); begin += begin > 690 && begin < 710 ? 1 : 1 + begin % 7) {
      files.read(begin, got, 127);
      joined.read(begin, want, 127);
      ASSERT_EQ(got, want) << length << " from " << begin;
      std::ranges::fill(got, -1);
    }
  }
  std::vector<int32_t> all(static_cast<size_t>(files.tokens())), want(all.size());
  files.read(0, all);
  joined.read(0, want);
  EXPECT_EQ(all, want);
  files.read(files.tokens(), {});
}

TEST_F(ManyFiles, ReadOnlyInside) {
  const TokenFiles files(prefixes_);
  std::vector<int32_t> out(2);
  for (const int64_t begin : {int64_t{-1}, files.tokens() - 1, files.tokens(), std::numeric_limits<int64_t>::max()})
    expect_error(Exit::failed, {cat("2 tokens from ", begin)}, [&] { files.read(begin, out); });
}

TEST_F(ManyFiles, AWrongTokenIsNamedWithItsFile) {
  const TokenFiles files(prefixes_);
  std::vector<int32_t> out(100);
  // Flat token 736 is 101 = 736 % 127, token 36 of the second file.
  expect_refused({prefixes_[1] + ".bin: token 101 at position 36", "vocabulary of 101"},
                 [&] { files.read(690, out, 101); });
}

TEST_F(ManyFiles, TheBeginningOfEachIsLookedAt) {
  write_binidx(folder_ / "other", std::vector<int32_t>{1, 2, 300, 4}, 4);
  prefixes_.push_back(folder_ / "other");
  const TokenFiles files(prefixes_);
  files.check_beginnings(2, 127);
  files.check_beginnings(20'000, 301);
  expect_refused({"other.bin: token 300 at position 2"}, [&] { files.check_beginnings(3, 127); });
}

TEST_F(ManyFiles, EachIsCheckedOnOpening) {
  const auto refused = [&](const std::vector<std::string>& pieces) {
    expect_refused(pieces, [&] { const TokenFiles files(prefixes_); });
  };
  std::filesystem::rename(prefixes_[4] + ".idx", prefixes_[4] + ".away");
  refused({prefixes_[4] + ".idx", "No such file"});
  std::filesystem::rename(prefixes_[4] + ".away", prefixes_[4] + ".idx");
  std::filesystem::resize_file(prefixes_[5] + ".bin", 40);
  refused({prefixes_[5] + ".bin has 40 bytes", "describes 1332"});
}

TEST_F(ManyFiles, OneThatShrinksIsAnError) {
  const TokenFiles files(prefixes_);
  std::filesystem::resize_file(prefixes_[1] + ".bin", 5);
  std::vector<int32_t> out(100);
  files.read(0, out);
  expect_error(Exit::failed, {prefixes_[1] + ".bin has become shorter while in use: 5 bytes"},
               [&] { files.read(650, out); });
}

TEST_F(ManyFiles, AFileReplacedByAnotherIsStillTheOneThatWasChecked) {
  const TokenFiles files(prefixes_);
  const uint64_t before = files.files()[1].fingerprint();
  std::filesystem::rename(prefixes_[0] + ".bin", prefixes_[1] + ".bin");
  std::vector<int32_t> out(100), want(100);
  files.read(650, out);
  BinIdx(folder_ / "joined").read(650, want);
  EXPECT_EQ(out, want);
  EXPECT_EQ(files.files()[1].fingerprint(), before);
}

TEST_F(ManyFiles, FingerprintsTellThemApart) {
  const auto print = [&](const char* name, const auto& tokens, uint8_t dtype) {
    write_binidx(folder_ / name, tokens, dtype);
    return BinIdx(folder_ / name).fingerprint();
  };
  std::vector<uint16_t> tokens(10'000, 7);
  const uint64_t one = print("one", tokens, 8);
  EXPECT_EQ(print("again", tokens, 8), one) << "whatever it is called";
  for (const size_t change : {0, 2047, 7952, 9999}) {
    tokens[change] = 8;
    EXPECT_NE(print("changed", tokens, 8), one) << change;
    tokens[change] = 7;
  }
  EXPECT_NE(print("longer", std::vector<uint16_t>(10'001, 7), 8), one);
  EXPECT_NE(print("signed", std::vector<int16_t>(10'000, 7), 3), one);
  EXPECT_NE(print("none", std::vector<uint16_t>{}, 8), print("short", std::vector<uint16_t>{0}, 8));
}

TEST(TokenFilesList, AThousandOpenAtOnceBeyondTheLimitOfOpenFiles) {
  const TempFolder folder;
  Prefixes prefixes;
  for (int i = 0; i < 1000; ++i) {
    prefixes.push_back(folder / cat("shard-", i));
    write_binidx(prefixes.back(), std::vector<uint16_t>{static_cast<uint16_t>(i)}, 8);
  }
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_GE(before.rlim_max, 1200u) << "this test wants a machine that allows as many";
  struct rlimit low = before;
  low.rlim_cur = 200;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  {
    const Stopwatch clock;
    const TokenFiles files(prefixes);
    EXPECT_LT(clock.seconds(), 1);  // a dozen system calls a file: it takes some hundredths of a second
    std::vector<int32_t> all(1000), want(1000);
    std::iota(want.begin(), want.end(), 0);
    files.read(0, all);
    EXPECT_EQ(all, want);
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace gf
