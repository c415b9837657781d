// SPDX-License-Identifier: Apache-2.0
#include "io/data/binidx_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <tuple>

#include "base/error.h"
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

// Replaces a data set, maybe one with a mask, by one with or without, while a call that finish() makes fails from then
// on, or is the last of the process.
class BinIdxReplacement : public testing::Test {
 protected:
  using Parts = std::map<std::string, std::string>;  // content by name after the prefix
  TempFolder folder_;

  static std::unique_ptr<BinIdxWriter> begin(const std::string& prefix, Masked masked, int32_t token) {
    auto writer = std::make_unique<BinIdxWriter>(prefix, 10, BinIdxWriter::kLongestSequence, masked);
    const std::vector<int32_t> tokens(static_cast<size_t>(token), token);
    const std::vector<uint8_t> marks(masked == Masked::yes ? tokens.size() : 0, 1);
    writer->append(tokens, marks);
    return writer;
  }
  Parts parts(const std::string& name) const {
    Parts found;
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      if (const std::string file = entry.path().filename(); file.starts_with(name + "."))
        found[file.substr(name.size())] = read_file(entry.path());
    return found;
  }
  // As a user does who has no message.
  void name_by_hand(const std::string& name, const Parts& wanted) const {
    for (const auto& [part, content] : parts(name)) {
      const fs::path path = folder_ / (name + part);
      if (path.extension() == ".partial")
        fs::rename(path, folder_ / (name + part.substr(0, part.size() - path.extension().string().size())));
      else if (!wanted.contains(part))
        fs::remove(path);
    }
  }
};

class InterruptedReplacement : public BinIdxReplacement,
                               public testing::WithParamInterface<std::tuple<Fault, Masked, Masked>> {};

TEST_P(InterruptedReplacement, LosesNoDataSet) {
  const auto [fault, mask_before, mask_after] = GetParam();
  begin(folder_ / "old", mask_before, 3)->finish();
  begin(folder_ / "new", mask_after, 5)->finish();
  const Parts old = parts("old"), whole = parts("new");
  ASSERT_EQ(whole.size(), mask_after == Masked::yes ? 3u : 2u);
  bool reached = true;
  int completed = 0;  // by what the message says, or by hand
  for (int call = 0; reached; ++call) {
    SCOPED_TRACE(cat("call ", call));
    for (const auto& [part, content] : parts("a")) fs::remove(folder_ / ("a" + part));
    begin(folder_ / "a", mask_before, 3)->finish();
    std::string hint;
    if (fault == Fault::death) {
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        const auto writer = begin(folder_ / "a", mask_after, 5);
        const FaultyDisk disk(folder_.path(), fault, call);
        writer->finish();
        _exit(0);
      }
      int status = -1;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      reached = status != 0;
    } else {
      const auto writer = begin(folder_ / "a", mask_after, 5);
      const FaultyDisk disk(folder_.path(), fault, call);
      try {
        writer->finish();
      } catch (const Error& e) {
        hint = e.hint();
      }
      reached = disk.reached();
    }
    const Parts left = parts("a");
    if (fault == Fault::death && !left.contains(".idx")) {
      name_by_hand("a", whole);
      ++completed;
      EXPECT_EQ(parts("a"), whole);
    } else if (fault == Fault::death && reached) {  // with what may be there of the new one beside it
      for (const auto& [part, content] : left.at(".idx") == old.at(".idx") ? old : whole)
        EXPECT_EQ(left.at(part), content) << part;
    } else if (hint.starts_with("rm ") || hint.starts_with("mv ")) {
      ASSERT_EQ(std::system(hint.c_str()), 0) << hint;
      ++completed;
      EXPECT_EQ(parts("a"), whole) << hint;
    } else {
      EXPECT_TRUE(left == whole || (reached && left == old));
    }
  }
  EXPECT_GE(completed, 3) << "without the old .idx, the new .bin, the new .idx";
  EXPECT_EQ(parts("a"), whole);
}

INSTANTIATE_TEST_SUITE_P(All, InterruptedReplacement,
                         testing::Combine(testing::Values(Fault::no_space, Fault::io_error, Fault::death),
                                          testing::Values(Masked::no, Masked::yes),
                                          testing::Values(Masked::no, Masked::yes)));

// A training and a validation part belong together.
TEST_F(BinIdxReplacement, OfTwoSetsIsWholeForBothOrNone) {
  begin(folder_ / "new", Masked::no, 5)->finish();
  const Parts whole = parts("new");
  bool reached = true;
  int completed = 0;
  for (int call = 0; reached; ++call) {
    for (const char* name : {"a", "b"}) begin(folder_ / name, Masked::no, 3)->finish();
    const auto a = begin(folder_ / "a", Masked::no, 5), b = begin(folder_ / "b", Masked::no, 5);
    const FaultyDisk disk(folder_.path(), Fault::io_error, call);
    try {
      BinIdxWriter::finish_all(std::vector{a.get(), b.get()});
    } catch (const Error& e) {
      if (e.hint().starts_with("rm ") || e.hint().starts_with("mv ")) {
        ASSERT_EQ(std::system(e.hint().c_str()), 0) << e.hint();
        EXPECT_EQ(parts("a"), whole) << e.hint();
        ++completed;
      }
    }
    reached = disk.reached();
    EXPECT_EQ(parts("a") == whole, parts("b") == whole) << "call " << call;
  }
  EXPECT_GE(completed, 5);
}

// No file has its name before its content is on disk, and none before it is on disk that the old .idx is gone.
TEST(BinIdxWriter, APowerCutTakesNothingThatHasItsName) {
  const TempFolder folder;
  write(folder / "a", 10, {{1, 2, 3}});
  FaultyDisk disk(folder.path());
  int named = 0;
  disk.before_name_change([&](const std::string& from, const std::string& to) {
    if (from.empty() || to.empty()) return;
    ++named;
    EXPECT_FALSE(fs::exists(folder / "a.idx"));
    EXPECT_THAT(disk.unsynced(from), testing::ElementsAre());
    EXPECT_THAT(disk.unsynced(), testing::Not(testing::Contains(folder.path().string())));
  });
  write(folder / "a", 10, {{4}});
  EXPECT_EQ(named, 2);
  EXPECT_THAT(disk.unsynced(), testing::ElementsAre());
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
