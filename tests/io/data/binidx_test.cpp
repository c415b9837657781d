// SPDX-License-Identifier: Apache-2.0
#include "io/data/binidx.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <numeric>

#include "base/clock.h"
#include "support/binidx_files.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

class BinIdxFiles : public ::testing::Test {
 protected:
  void write(const IdxFields& idx, const std::string& bin) {
    write_file(prefix_ + ".idx", idx.bytes());
    write_file(prefix_ + ".bin", bin);
  }
  std::vector<int32_t> read(int64_t begin, size_t count) {
    std::vector<int32_t> out(count);
    BinIdx(prefix_).read(begin, out);
    return out;
  }

  TempFolder folder_;
  std::string prefix_ = folder_ / "data";
  // Three documents of 2, 3 and 1 tokens, uint16.
  IdxFields idx_ = idx_of({2, 3, 1}, 8, 2);
  std::vector<uint16_t> tokens_{10, 11, 20, 65535, 22, 30};
};

TEST_F(BinIdxFiles, ReadsAcrossDocuments) {
  write(idx_, bytes_of(tokens_));
  const BinIdx data(prefix_);
  EXPECT_EQ(data.tokens(), 6);
  EXPECT_EQ(data.documents(), 3);
  EXPECT_EQ(data.sequences(), 3);
  EXPECT_STREQ(data.type().name, "uint16");
  data.verify();
  EXPECT_EQ(read(0, 6), (std::vector<int32_t>{10, 11, 20, 65535, 22, 30}));
  EXPECT_EQ(read(1, 3), (std::vector<int32_t>{11, 20, 65535}));
  EXPECT_EQ(read(6, 0), std::vector<int32_t>{});
}

template <class T>
void check_type(uint8_t code, const char* name) {
  const TempFolder folder;
  std::vector<T> tokens(20000);  // more than one buffer of the reader
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<T>(i % 127);
  write_binidx(folder / "d", tokens, code);
  const BinIdx data(folder / "d");
  EXPECT_STREQ(data.type().name, name);
  std::vector<int32_t> out(19990);
  data.read(5, out, 127);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], static_cast<int32_t>((i + 5) % 127));
  expect_refused({"token 126", "position 126", "vocabulary of 126"}, [&] { data.read(5, out, 126); });
}

TEST(BinIdx, ReadsEveryIntegerType) {
  check_type<uint8_t>(1, "uint8");
  check_type<int8_t>(2, "int8");
  check_type<int16_t>(3, "int16");
  check_type<int32_t>(4, "int32");
  check_type<int64_t>(5, "int64");
  check_type<uint16_t>(8, "uint16");
}

TEST(BinIdx, RefusesTokensThatAreNone) {
  const TempFolder folder;
  std::vector<int32_t> out(9000);
  std::vector<int64_t> wide(9000, 5);
  wide[8999] = int64_t{1} << 31;
  write_binidx(folder / "wide", wide, 5);
  expect_refused({"2147483648", "position 8999"}, [&] { BinIdx(folder / "wide").read(0, out); });
  std::vector<int16_t> negative(9000, 5);
  negative[8500] = -3;
  write_binidx(folder / "negative", negative, 3);
  expect_refused({"-3", "position 8500"}, [&] { BinIdx(folder / "negative").read(0, out); });
}

TEST_F(BinIdxFiles, RefusesMissingFiles) {
  expect_refused({prefix_ + ".idx", "No such file", "PREFIX"}, [&] { const BinIdx data(prefix_); });
  write(idx_, bytes_of(tokens_));
  expect_refused({"the name without its ending: " + prefix_}, [&] { const BinIdx data(prefix_ + ".bin"); });
  std::filesystem::remove(prefix_ + ".bin");
  expect_refused({prefix_ + ".bin", "No such file"}, [&] { const BinIdx data(prefix_); });
  std::filesystem::create_directory(prefix_ + ".bin");
  expect_refused({prefix_ + ".bin is a folder"}, [&] { const BinIdx data(prefix_); });
  std::filesystem::remove(prefix_ + ".bin");
  ASSERT_EQ(mkfifo((prefix_ + ".bin").c_str(), 0600), 0);
  expect_refused({prefix_ + ".bin is not a regular file"}, [&] { const BinIdx data(prefix_); });
}

TEST_F(BinIdxFiles, RefusesWrongHeaders) {
  const auto refused = [&](IdxFields idx, std::initializer_list<std::string> parts) {
    write(idx, bytes_of(tokens_));
    expect_refused(parts, [&] { const BinIdx data(prefix_); });
  };
  IdxFields idx = idx_;
  idx.magic[0] = 'X';
  refused(idx, {"MMIDIDX"});
  (idx = idx_).version = 2;
  refused(idx, {"version 2", "reads 1"});
  for (const int dtype : {0, 6, 7, 9, 255}) {
    (idx = idx_).dtype = static_cast<uint8_t>(dtype);
    refused(idx, {cat("dtype ", dtype), "1, 2, 3, 4, 5, 8"});
  }
}

TEST_F(BinIdxFiles, RefusesCountsThatDoNotFitTheFile) {
  // The last ones make 34 + 12 * sequences + 8 * marks overflow to the right size.
  for (const auto& [sequences, marks] : std::vector<std::pair<uint64_t, uint64_t>>{
           {2, 4}, {3, 3}, {4, 4}, {~0ull, 4}, {3, ~0ull}, {3 + (1ull << 62), 4}, {3, 4 + (1ull << 61)}}) {
    IdxFields idx = idx_;
    idx.sequences = sequences, idx.marks = marks;
    write(idx, bytes_of(tokens_));
    expect_refused({cat(sequences, " sequences"), cat(marks, " document marks"), "102 bytes"},
                   [&] { const BinIdx data(prefix_); });
  }
}

TEST_F(BinIdxFiles, RefusesEveryTruncation) {
  const std::string idx = idx_.bytes(), bin = bytes_of(tokens_);
  write_file(prefix_ + ".bin", bin);
  for (size_t n = 0; n < idx.size(); ++n) {
    write_file(prefix_ + ".idx", idx.substr(0, n));
    expect_refused({prefix_ + ".idx", cat(n, " bytes")}, [&] { const BinIdx data(prefix_); });
  }
  write_file(prefix_ + ".idx", idx);
  for (size_t n = 0; n < bin.size(); ++n) {
    write_file(prefix_ + ".bin", bin.substr(0, n));
    expect_refused({prefix_ + ".bin", cat(n, " bytes")}, [&] { const BinIdx data(prefix_); });
  }
}

TEST_F(BinIdxFiles, RefusesLyingEnds) {
  const auto refused = [&](IdxFields idx, std::initializer_list<std::string> parts) {
    write(idx, bytes_of(tokens_));
    expect_refused(parts, [&] { const BinIdx data(prefix_); });
  };
  IdxFields idx = idx_;
  idx.lengths.back() = 2;
  refused(idx, {"has 12 bytes", "describes 14"});
  (idx = idx_).lengths.back() = -1;
  refused(idx, {"-1 tokens"});
  (idx = idx_).offsets.back() = std::numeric_limits<int64_t>::max();
  refused(idx, {"9223372036854775807"});
  (idx = idx_).offsets.back() = -2;
  refused(idx, {"byte -2"});
  (idx = idx_).offsets.front() = 2;
  refused(idx, {"byte 2, not 0"});
}

TEST_F(BinIdxFiles, VerifyFindsLiesInside) {
  const auto refused = [&](IdxFields idx, std::initializer_list<std::string> parts) {
    write(idx, bytes_of(tokens_));
    const BinIdx data(prefix_);
    expect_refused(parts, [&] { data.verify(); });
  };
  IdxFields idx = idx_;
  idx.offsets[1] = 6;
  refused(idx, {"sequence 1", "byte 6", "ends at 4"});
  (idx = idx_).lengths[0] = -7;
  refused(idx, {"sequence 0", "-7 tokens"});
  (idx = idx_).documents = {0, 2, 1, 3};
  refused(idx, {"document 2", "sequence 1"});
  (idx = idx_).documents = {0, 1, 2, 9};
  refused(idx, {"document 3", "sequence 9", "of 3"});
  (idx = idx_).documents = {1, 1, 2, 3};
  refused(idx, {"document 0", "sequence 1"});
}

TEST_F(BinIdxFiles, AFileThatShrinksIsAnError) {
  write(idx_, bytes_of(tokens_));
  const BinIdx data(prefix_);
  std::filesystem::resize_file(prefix_ + ".bin", 5);
  std::vector<int32_t> out(6);
  expect_error(Exit::failed, {prefix_ + ".bin", "shorter", "5 bytes"}, [&] { data.read(0, out); });
}

TEST_F(BinIdxFiles, ReadsOnlyInside) {
  write(idx_, bytes_of(tokens_));
  const BinIdx data(prefix_);
  std::vector<int32_t> out(2);
  for (const int64_t begin : {int64_t{-1}, int64_t{5}, int64_t{7}, std::numeric_limits<int64_t>::max()}) {
    expect_error(Exit::failed, {cat("2 tokens from ", begin), "there are 6"}, [&] { data.read(begin, out); });
  }
}

TEST_F(BinIdxFiles, OpensTenMillionDocumentsAtOnce) {
  // A sparse file of empty documents but the last: opening must look at its ends only.
  constexpr int64_t n = 10'000'000;
  IdxFields header{.sequences = n, .marks = n + 1};
  write_file(prefix_ + ".idx", header.bytes());
  std::filesystem::resize_file(prefix_ + ".idx", 34 + 12 * n + 8 * (n + 1));
  write_file(prefix_ + ".bin", "");
  const Stopwatch clock;
  const BinIdx data(prefix_);
  EXPECT_LT(clock.seconds(), 0.1);  // a few system calls; a tenth of what is promised
  EXPECT_EQ(data.documents(), n);
}

}  // namespace
}  // namespace gf
