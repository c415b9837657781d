// SPDX-License-Identifier: Apache-2.0
#include "io/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>

#include "io/partial_file.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

TEST(Files, ContentIsReplacedAsAWhole) {
  const TempFolder folder;
  const auto path = folder / "config.yaml";
  write_file_atomically(path, "old");
  bool reached = true;
  for (int call = 0; reached; ++call) {
    const FaultyDisk disk(folder.path().string(), Fault::no_space, call);
    bool written = true;
    try {
      write_file_atomically(path, "new content");
    } catch (const Error& e) {
      written = false;
      EXPECT_NE(std::string(e.what()).find(folder.path().string()), std::string::npos) << e.what();
    }
    reached = disk.reached();
    EXPECT_EQ(written, !reached);
    const std::string content = read_small_file(path, 100);
    EXPECT_TRUE(content == "new content" || (content == "old" && !written)) << content;
  }
}

// What has a name is on disk already, and the name is when the call returns.
TEST(Files, APowerCutTakesNoContent) {
  const TempFolder folder;
  FaultyDisk disk(folder.path().string());
  int names = 0;
  disk.before_name_change([&](const std::string& from, const std::string& to) {
    if (to != (folder / "a").string()) return;
    ++names;
    EXPECT_EQ(from, to + ".partial");
    EXPECT_THAT(disk.unsynced(from), testing::ElementsAre());
  });
  write_file_atomically(folder / "a", "content");
  EXPECT_EQ(names, 1);
  EXPECT_THAT(disk.unsynced(), testing::ElementsAre());
  create_folder_durably(folder / "b" / "c");
  EXPECT_THAT(disk.unsynced(), testing::ElementsAre());
  remove_durably(folder / "b" / "c");
  EXPECT_THAT(disk.unsynced(), testing::ElementsAre());
  File::create(folder / "b" / "d").write(std::as_bytes(std::span("x")));
  EXPECT_THAT(disk.unsynced(), testing::ElementsAre((folder / "b").string(), (folder / "b/d").string()))
      << "what is not synced is seen";
}

TEST(Files, WhatIsWholeStaysWhereOnlyItsNameFails) {
  const TempFolder folder;
  std::optional<PartialFile> partial(std::in_place, folder / "a");
  partial->file().write(std::as_bytes(std::span(std::string_view("content"))));
  partial->file().sync();
  const std::string hint = "mv '" + (folder / "a.partial").string() + "' '" + (folder / "a").string() + "'";
  {
    const FaultyDisk disk(folder.path().string(), Fault::io_error, 0);
    expect_error(Exit::failed, {"cannot rename", "Input/output error", "is whole and on disk", "[try: " + hint + "]"},
                 [&] { partial->publish(); });
  }
  partial.reset();
  EXPECT_EQ(read_small_file(folder / "a.partial", 100), "content");
}

TEST(Files, ShortWritesAreContinued) {
  const TempFolder folder;
  const FaultyDisk disk(folder.path().string(), Fault::short_write, 1);  // call 0 creates
  write_file_atomically(folder / "a", "0123456789");
  EXPECT_TRUE(disk.reached());
  EXPECT_EQ(read_small_file(folder / "a", 100), "0123456789");
}

TEST(Files, ShortReadsAreContinued) {
  const TempFolder folder;
  write_file_atomically(folder / "a", "0123456789");
  const FaultyDisk disk(folder.path().string(), Fault::short_read, 0);
  EXPECT_EQ(read_small_file(folder / "a", 100), "0123456789");
  std::string bytes(7, ' ');
  File::open(folder / "a").read_at(std::as_writable_bytes(std::span(bytes)), 2);
  EXPECT_EQ(bytes, "2345678");
  EXPECT_GT(disk.calls(), 3);
}

TEST(Files, AFailureToReadIsTold) {
  const TempFolder folder;
  write_file_atomically(folder / "a", "0123456789");
  const FaultyDisk disk(folder.path().string(), Fault::read_error, 1);
  std::byte bytes[2];
  File file = File::open(folder / "a");
  file.read_at(bytes, 0);
  for (const bool at : {false, true})
    expect_error(Exit::failed, {"cannot read", folder / "a", "Input/output error"},
                 [&] { at ? file.read_at(bytes, 2) : static_cast<void>(file.read(bytes)); });
}

TEST(Files, ReadingBeyondTheEndIsRefused) {
  const TempFolder folder;
  write_file_atomically(folder / "a", "0123456789");
  std::byte bytes[8];
  expect_error(Exit::bad_input, {(folder / "a").string(), "byte 10", "byte 13"},
               [&] { File::open(folder / "a").read_at(bytes, 5); });
}

TEST(Files, OnlyRegularFilesOfSensibleSizeAreRead) {
  const TempFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_error(Exit::bad_input, {"pipe", "regular"}, [&] { File::open(folder / "pipe"); });
  expect_error(Exit::bad_input, {folder.path().string()}, [&] { File::open(folder.path()); });
  expect_error(Exit::bad_input, {"missing", "No such file"}, [&] { File::open(folder / "missing"); });
  write_file_atomically(folder / "a", "0123456789");
  expect_error(Exit::bad_input, {"10 bytes", "at most 9"}, [&] { read_small_file(folder / "a", 9); });
}

TEST(Files, FoldersAreMadeAndRemoved) {
  const TempFolder folder;
  create_folder_durably(folder / "a" / "b" / "c");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a" / "b" / "c"));
  expect_error(Exit::failed, {"cannot create the folder", (folder / "a").string(), "File exists"},
               [&] { create_folder(folder / "a"); });
  create_folder(folder / "new");
  remove_durably(folder / "new");
  EXPECT_FALSE(std::filesystem::exists(folder / "new"));
  remove_durably(folder / "new");
  expect_error(Exit::failed, {"cannot remove", (folder / "a").string(), "not empty"},
               [&] { remove_durably(folder / "a"); });
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a" / "b" / "c"));
  write_file_atomically(folder / "file", "");
  expect_error(Exit::failed, {(folder / "file").string(), "Not a directory"},
               [&] { create_folder_durably(folder / "file" / "b"); });
  EXPECT_GT(free_bytes(folder.path()), 0);
}

TEST(Files, OneProcessAtATimeWritesAFile) {
  const TempFolder folder;
  const std::filesystem::path path = folder / "data";
  write_file_atomically(path, "what was there");
  {
    PartialFile first(path);
    first.file().write_at(std::as_bytes(std::span(std::string_view("new"))), 0);
    expect_refused({path.string() + ".partial", "being written by another process"}, [&] { PartialFile second(path); });
    first.file().sync();
    first.publish();
    PartialFile after(path);  // the name is free again
    EXPECT_EQ(read_small_file(path, 100), "new");
  }
  EXPECT_FALSE(std::filesystem::exists(path.string() + ".partial"));
  expect_refused({folder.path().string(), "is a folder"}, [&] { PartialFile file(folder.path()); });
}

// Renaming a file over them would break what they are to others; as root that is /dev/null.
TEST(Files, OnlyRegularFilesAreReplaced) {
  const TempFolder folder;
  namespace fs = std::filesystem;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  fs::create_symlink("pipe", folder / "to-pipe");
  fs::create_symlink("/dev/null", folder / "to-device");
  fs::create_symlink("nothing", folder / "to-nothing");
  for (const auto& [name, reason] :
       {std::pair("pipe", "is not a regular file"), std::pair("to-pipe", "is not a regular file"),
        std::pair("to-device", "is not a regular file"), std::pair("to-nothing", "leads to no file")}) {
    const auto before = fs::symlink_status(folder / name).type();
    expect_refused({folder / name, reason}, [&] { write_file_atomically(folder / name, "new"); });
    EXPECT_EQ(fs::symlink_status(folder / name).type(), before);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 4) << "and nothing is left beside them";
}

TEST(Files, LinksToRegularFilesAreFollowed) {
  const TempFolder folder;
  namespace fs = std::filesystem;
  fs::create_directory(folder / "elsewhere");
  write_file_atomically(folder / "elsewhere/file", "old");
  fs::create_symlink("elsewhere/file", folder / "link");
  write_file_atomically(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_small_file(folder / "elsewhere/file", 100), "new");
}

TEST(Files, NothingIsWrittenThroughWhatStandsInTheWay) {
  const TempFolder folder;
  write_file_atomically(folder / "other", "keep this");
  std::filesystem::create_symlink("other", folder / "a.partial");
  std::filesystem::create_symlink("nothing", folder / "b");
  expect_refused({"a.partial is a symbolic link", "remove it"}, [&] { write_file_atomically(folder / "a", "new"); });
  for (const char* name : {"a.partial", "b"}) {
    expect_refused({folder / name, "is a symbolic link"}, [&] { File::create(folder / name); });
    expect_refused({folder / name, "is a symbolic link"}, [&] { File::append_to(folder / name); });
    expect_refused({folder / name, "is a symbolic link"},
                   [&] { write_file_atomically(folder / name, "new", Exit::failed, File::Links::refuse); });
  }
  EXPECT_EQ(read_small_file(folder / "other", 100), "keep this");
  EXPECT_FALSE(std::filesystem::exists(folder / "nothing"));
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_refused({"pipe is not a regular file"}, [&] { File::create(folder / "pipe"); });
  expect_refused({"pipe is not a regular file"}, [&] { File::append_to(folder / "pipe"); });
}

TEST(Files, AFailureToCloseIsTold) {
  const TempFolder folder;
  const FaultyDisk disk(folder.path().string(), Fault::close_error, 0);
  File file = File::create(folder / "a");
  expect_error(Exit::failed, {"cannot close", folder / "a", "Input/output error"}, [&] { file.close(); });
}

// Where a file system knows no such call all is left to sync(), which hears of no write that this one has told of.
TEST(Files, WhatCannotBeWrittenBackIsToldOfAndWhoCannotIsNot) {
  const TempFolder folder;
  FaultyDisk disk(folder.path().string());
  File file = File::create(folder / "a");
  file.write(std::as_bytes(std::span(std::string_view("0123456789"))));
  int calls = 0;
  for (const int cannot : {0, ENOSYS, EOPNOTSUPP, EINVAL, ESPIPE}) {
    disk.before_sync([&](int64_t begin, int64_t bytes) {
      ++calls;
      EXPECT_EQ(begin, 2);
      EXPECT_EQ(bytes, 5);
      return cannot;
    });
    file.write_back(2, 7);
  }
  EXPECT_EQ(calls, 5);
  EXPECT_THAT(disk.unsynced(), testing::Contains((folder / "a").string())) << "no way leads to it yet";
  for (const auto& [error, text] : {std::pair(EIO, "Input/output error"), std::pair(ENOSPC, "No space left"),
                                    std::pair(EDQUOT, "quota"), std::pair(ESTALE, "Stale")}) {
    disk.before_sync([error](int64_t, int64_t) { return error; });
    expect_error(Exit::failed, {"cannot sync", folder / "a", text}, [&] { file.write_back(0, 10); });
  }
}

TEST(Files, MoreThanMayBeOpenIsRefused) {
  expect_refused({"1000000000000 files are to be opened", "this process may have"},
                 [] { allow_open_files(1'000'000'000'000); });
}

TEST(Files, TellsSamePathsBeforeThereIsAnything) {
  EXPECT_TRUE(same_path("new", "./new"));
  EXPECT_TRUE(same_path("new/", std::filesystem::absolute("new") / ""));
  EXPECT_TRUE(same_path("new/", "new"));
  EXPECT_FALSE(same_path("new", "other"));
}

}  // namespace
}  // namespace gf
