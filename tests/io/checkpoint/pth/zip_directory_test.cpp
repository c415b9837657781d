// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/pth/zip_directory.h"

#include <gtest/gtest.h>

#include <fstream>

#include "io/checkpoint/pth/pth_samples.h"
#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;
using pth::raw;
using pth::zip_of;

class ZipDirectory : public testing::Test {
 protected:
  TempFolder folder_;
  fs::path file_ = folder_ / "x.zip";
  std::map<std::string, ZipEntry> read(const std::string& bytes) const {
    std::ofstream(file_, std::ios::binary) << bytes;
    return read_zip_directory(File::open(file_));
  }
  void expect_refused(const std::string& bytes, std::vector<std::string> pieces) const {
    SCOPED_TRACE(pieces[0]);
    pieces.push_back(file_.string());
    expect_error(Exit::bad_input, pieces, [&] { read(bytes); });
  }
};

TEST_F(ZipDirectory, SaysWhereTheBytesAre) {
  const std::string bytes = zip_of({{"a/", ""}, {"a/one", "1234"}, {"a/two", "56"}, {"a/none", ""}});
  const auto entries = read(bytes);
  ASSERT_EQ(entries.size(), 3u);
  const auto content = [&](const char* name) {
    const ZipEntry& e = entries.at(name);
    return bytes.substr(static_cast<size_t>(e.begin), static_cast<size_t>(e.end - e.begin));
  };
  EXPECT_EQ(content("a/one"), "1234");
  EXPECT_EQ(content("a/two"), "56");
  EXPECT_EQ(content("a/none"), "");
}

// torch writes the zip64 records in any case; here they are what counts.
TEST_F(ZipDirectory, Zip64RecordsAndFields) {
  const std::string small = zip_of({{"a", "1234"}});
  const size_t directory = small.find("PK\1\2"), end = small.find("PK\5\6");
  // The directory's sizes and offset move into an extra field.
  std::string entry = small.substr(directory, end - directory), file = small.substr(0, directory);
  entry.replace(20, 8, raw(UINT32_MAX) + raw(UINT32_MAX));
  entry.replace(30, 2, raw(uint16_t{28}));
  entry.replace(42, 4, raw(UINT32_MAX));
  entry += raw(uint16_t{1}) + raw(uint16_t{24}) + raw(uint64_t{4}) + raw(uint64_t{4}) + raw(uint64_t{0});
  const auto end_records = [&](uint64_t offset) {
    return "PK\6\6" + raw(uint64_t{44}) + raw(uint32_t{0}) + raw(uint64_t{0}) + raw(uint64_t{1}) + raw(uint64_t{1}) +
           raw(static_cast<uint64_t>(entry.size())) + raw(offset) + "PK\6\7" + raw(uint32_t{0}) +
           raw(static_cast<uint64_t>(file.size() + entry.size())) + raw(uint32_t{1}) + "PK\5\6" + raw(uint32_t{0}) +
           raw(uint32_t{UINT32_MAX}) + raw(UINT32_MAX) + raw(UINT32_MAX) + raw(uint16_t{0});
  };
  const std::string whole = file + entry + end_records(file.size());
  const ZipEntry read_back = read(whole).at("a");
  EXPECT_EQ(whole.substr(static_cast<size_t>(read_back.begin), 4), "1234");
  EXPECT_EQ(read_back.end - read_back.begin, 4);
  expect_refused(file + entry + end_records(file.size() + 1), {"its directory has"});
  expect_refused(file + entry + end_records(UINT64_MAX), {"its directory has"});
  std::string two = whole;
  two.replace(whole.size() - 12, 2, raw(uint16_t{2}));
  expect_refused(two, {"in two ways"});
}

TEST_F(ZipDirectory, PathsOutOfTheArchive) {
  for (const char* name : {"../a", "a/../../b", "/etc/passwd", "a//b", "./a", "a/..", "a/./b"})
    expect_refused(zip_of({{"archive/data.pkl", "x"}, {name, "x"}}),
                   {std::string("the entry ") + name, "do not trust"});
  expect_refused(zip_of({{"..\\a", "x"}}), {"backslashes"});
  expect_refused(zip_of({{"a\nb", "x"}}), {"control characters"});
  expect_refused(zip_of({{"", "x"}}), {"empty"});
  expect_refused(zip_of({{std::string(513, 'x'), "x"}}), {"a name of 513 bytes"});
}

TEST_F(ZipDirectory, WhatTorchDoesNotWrite) {
  expect_refused(zip_of({{.name = "a", .bytes = "x", .method = 8}}), {"a is compressed (method 8)", "save it again"});
  expect_refused(zip_of({{.name = "a", .bytes = "x", .flags = 1}}), {"a is encrypted"});
  expect_refused(zip_of({{"a", "x"}, {"a", "y"}}), {"a is in it twice"});
}

TEST_F(ZipDirectory, SizesAndPlacesThatLie) {
  expect_refused(zip_of({{.name = "a", .bytes = "1234", .size = 5}}), {"a has 5 bytes"});
  expect_refused(zip_of({{.name = "a", .bytes = "1234", .size = UINT32_MAX - 1}}), {"a has 4294967294 bytes"});
  expect_refused(zip_of({{.name = "a", .bytes = "1234", .size = UINT32_MAX}}), {"a has 4294967295 bytes"});
  expect_refused(zip_of({{.name = "a", .bytes = "1234", .offset = 1}}), {"not where the directory has it"});
  expect_refused(zip_of({{.name = "a", .bytes = "1234", .offset = 40000}}), {"from byte 40000"});
  expect_refused(zip_of({{"a", "1234"}, {.name = "b", .bytes = "56", .offset = 0}}), {"b is not what lies at byte 0"});
  // An entry inside another one's bytes, which would unpack to more than the file has.
  const std::string inner = zip_of({{"b", "1234"}}), entry = inner.substr(0, inner.find("PK\1\2"));
  expect_refused(zip_of({{"a", entry}, {.name = "b", .bytes = "1234", .offset = 31}}), {"share their bytes"});
  std::string counted = zip_of({{"a", "1234"}});
  counted[counted.size() - 12] = 2;
  expect_refused(counted, {"1 entries and says 2"});
}

}  // namespace
}  // namespace gf
