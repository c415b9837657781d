// SPDX-License-Identifier: Apache-2.0
#include "io/data/binidx_writer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <numeric>

#include "support/binidx_files.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

void write(const std::string& prefix, int64_t vocab_size, const std::vector<std::vector<int32_t>>& documents) {
  BinIdxWriter writer(prefix, vocab_size);
  for (const auto& tokens : documents) {
    writer.append(tokens);
    writer.end_document();
  }
  writer.finish();
}

TEST(BinIdxWriter, WritesTheFormatByteForByte) {
  const TempFolder folder;
  write(folder / "a", 65536, {{1, 2}, {}, {3, 65535, 5}, {6}});
  EXPECT_EQ(read_file(folder / "a.bin"), bytes_of(std::vector<uint16_t>{1, 2, 3, 65535, 5, 6}));
  EXPECT_EQ(read_file(folder / "a.idx"), idx_of({2, 3, 1}, 8, 2).bytes());
  write(folder / "b", 65537, {{1, 65536}});
  EXPECT_EQ(read_file(folder / "b.bin"), bytes_of(std::vector<int32_t>{1, 65536}));
  EXPECT_EQ(read_file(folder / "b.idx"), idx_of({2}, 4, 4).bytes());
}

TEST(BinIdxWriter, ALongDocumentIsSeveralSequences) {
  const TempFolder folder;
  {
    BinIdxWriter writer(folder / "long", 100, 4);
    for (const int length : {3, 10, 4, 8}) {
      std::vector<int32_t> tokens(static_cast<size_t>(length));
      std::iota(tokens.begin(), tokens.end(), length);
      writer.append(std::span(tokens).first(2));
      writer.append(std::span(tokens).subspan(2));
      writer.end_document();
    }
    EXPECT_EQ(writer.documents(), 4);
    writer.finish();
  }
  IdxFields idx = idx_of({3, 4, 4, 2, 4, 4, 4}, 8, 2);
  idx.documents = {0, 1, 4, 5, 7};
  idx.marks = 5;
  EXPECT_EQ(read_file(folder / "long.idx"), idx.bytes());
  const BinIdx data(folder / "long");
  data.verify();
  EXPECT_EQ(data.documents(), 4);
  EXPECT_EQ(data.sequences(), 7);
}

TEST(BinIdxWriter, ManyDocumentsReadBack) {
  const TempFolder folder;
  constexpr int n = 200'000;  // several pieces of the index
  {
    BinIdxWriter writer(folder / "many", 1000);
    for (int32_t i = 0; i < n; ++i) {
      const std::vector<int32_t> tokens(static_cast<size_t>(i % 4), i % 1000);
      writer.append(tokens);
      writer.end_document();
    }
    writer.finish();
  }
  const BinIdx data(folder / "many");
  data.verify();
  EXPECT_EQ(data.documents(), n / 4 * 3);
  EXPECT_EQ(data.tokens(), n / 4 * 6);
}

TEST(BinIdxWriter, NothingTakesItsNameBeforeTheEnd) {
  const TempFolder folder;
  write(folder / "a", 10, {{1, 2, 3}});
  const std::string idx = read_file(folder / "a.idx"), bin = read_file(folder / "a.bin");
  {
    BinIdxWriter writer(folder / "a", 10);
    const std::vector<int32_t> tokens(1'000'000, 4);
    writer.append(tokens);
    EXPECT_TRUE(fs::exists(folder / "a.bin.partial"));
    EXPECT_EQ(read_file(folder / "a.bin"), bin);
  }  // given up
  EXPECT_EQ(read_file(folder / "a.bin"), bin);
  EXPECT_EQ(read_file(folder / "a.idx"), idx);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2);
  write(folder / "a", 10, {{4}});
  EXPECT_EQ(BinIdx(folder / "a").tokens(), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2);
}

TEST(BinIdxWriter, MakesItsFolderOrRefuses) {
  const TempFolder folder;
  write(folder / "new/deep/a", 10, {{1}});
  EXPECT_EQ(BinIdx(folder / "new/deep/a").tokens(), 1);
  write_file(folder / "file", "");
  expect_refused({"file"}, [&] { const BinIdxWriter writer(folder / "file/a", 10); });
  fs::create_directory(folder / "b.idx.partial");  // the second of the two files cannot be made
  expect_refused({"b.idx.partial"}, [&] { const BinIdxWriter writer(folder / "b", 10); });
  EXPECT_FALSE(fs::exists(folder / "b.bin.partial"));
}

TEST(BinIdxWriter, AFullDiskIsAnError) {
  const TempFolder folder;
  const FaultyDisk disk(folder.path().string(), Fault::no_space, 1);  // call 0 creates
  File full = File::create(folder / "full");
  Appender appender(full);
  expect_error(Exit::failed, {folder / "full", "No space left", "free some space"}, [&] {
    appender.append(1);
    appender.flush();
  });
}

TEST(BinIdxWriter, ReplacesAndRemovesNothingButFiles) {
  for (const char* part : {".bin", ".idx", ".mask.bin"}) {
    const TempFolder folder;
    const std::string pipe = (folder / "a").string() + part;
    ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
    expect_refused({pipe, "is not a regular file"}, [&] { write(folder / "a", 10, {{1}}); });
    EXPECT_TRUE(fs::is_fifo(pipe));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
  }
}

TEST(BinIdxWriter, TokensOutsideTheVocabularyAreOurOwnError) {
  const TempFolder folder;
  BinIdxWriter writer(folder / "a", 10);
  expect_error(Exit::failed, {"vocabulary of 10"}, [&] { writer.append(std::vector<int32_t>{1, 10}); });
  expect_error(Exit::failed, {"vocabulary of 10"}, [&] { writer.append(std::vector<int32_t>{-1}); });
}

}  // namespace
}  // namespace gf
