// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/safetensors_shards.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "io/checkpoint/checkpoint_samples.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class SafetensorsShardsTest : public testing::Test {
 protected:
  TempFolder folder_;
  fs::path file_ = folder_ / "x.safetensors", index_ = folder_ / "x.safetensors.index.json";
  // 12, 140 and 96 bytes in float32, in the order of their names.
  std::vector<Named> state_ = sample_state(3, {{"model/a", {3}}, {"model/b", {7, 5}}, {"model/c", {2, 3, 4}}});
  CheckpointReader source_{write_as_ranks(folder_.path(), state_, 1)};

  std::vector<std::string> write(int64_t most_bytes, FloatFormat format = FloatFormat::f32) const {
    std::vector<std::string> names;
    const WrittenShards written =
        write_safetensors_shards(file_, source_, format, most_bytes, {{"config", "model: {}"}});
    for (const fs::path& path : written.files) names.push_back(path.filename().string());
    return names;
  }
  void expect_refused(const std::string& index, std::vector<std::string> pieces) const {
    SCOPED_TRACE(index);
    std::ofstream(index_) << index;
    pieces.push_back(index_.string());
    expect_error(Exit::bad_input, pieces, [&] { SafetensorsShards{index_}; });
  }
};

TEST_F(SafetensorsShardsTest, FilesHoldNoMoreThanAsked) {
  EXPECT_EQ(write(248), std::vector<std::string>{"x.safetensors"});
  fs::remove(file_);
  const std::vector<std::string> two{"x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors",
                                     "x.safetensors.index.json"};
  EXPECT_EQ(write(247), two);
  EXPECT_EQ(write(152), two);
  EXPECT_EQ(write(76, FloatFormat::f16), two);
  EXPECT_EQ(SafetensorsReader(folder_ / two[0]).entries().size(), 2u);
  expect_holds(SafetensorsShards(index_), state_);
  EXPECT_EQ(write(1).size(), 4u);  // one each, though none is that small
  expect_holds(SafetensorsShards(index_), state_);
  EXPECT_EQ(SafetensorsShards(index_).config(), "model: {}");
}

TEST_F(SafetensorsShardsTest, TheIndexIsWhatOthersWrite) {
  write(152);
  const auto index = nlohmann::json::parse(read_file(index_));
  const nlohmann::json expected = {{"metadata", {{"total_size", 248}}},
                                   {"weight_map",
                                    {{"a", "x-00001-of-00002.safetensors"},
                                     {"b", "x-00001-of-00002.safetensors"},
                                     {"c", "x-00002-of-00002.safetensors"}}}};
  EXPECT_EQ(index, expected);
}

TEST_F(SafetensorsShardsTest, TheOtherKindOfExportIsNotLeftBeside) {
  write(248);
  expect_error(Exit::bad_input, {file_.string(), "another export", "remove it first"}, [&] { write(152); });
  fs::remove(file_);
  write(152);
  expect_error(Exit::bad_input, {index_.string(), "another export"}, [&] { write(248); });
  expect_holds(SafetensorsShards(index_), state_);
}

// Over an older export with the same names: either all of the old one is found, or all of the new, or no index.
TEST_F(SafetensorsShardsTest, FullDiskNeverMixesTwoExports) {
  const auto newer = sample_state(500, {{"model/a", {3}}, {"model/b", {7, 5}}, {"model/c", {2, 3, 4}}});
  const CheckpointReader newer_source(write_as_ranks(folder_.path(), newer, 1, 200));
  bool reached = true;
  for (int call = 0; reached; ++call) {
    write(152);
    const FaultyDisk disk(folder_.path().string() + "/x", Fault::no_space, call);
    bool written = true;
    try {
      write_safetensors_shards(file_, newer_source, FloatFormat::f32, 152, {});
    } catch (const Error&) {
      written = false;
    }
    reached = disk.reached();
    EXPECT_EQ(written, !reached);
    if (!fs::exists(index_)) continue;
    expect_holds(SafetensorsShards(index_), written ? newer : state_);
  }
}

// Of another number of files: these go, once all of the new ones are there, and no other file does.
TEST_F(SafetensorsShardsTest, FilesOfAnOlderExportGoAndNoOthers) {
  const auto newer = sample_state(500, {{"model/a", {3}}, {"model/b", {7, 5}}, {"model/c", {2, 3, 4}}});
  const CheckpointReader newer_source(write_as_ranks(folder_.path(), newer, 1, 200));
  const fs::path kept[] = {folder_ / "x-00001-of-00009.safetensors", folder_ / "x-more.safetensors"};
  for (const fs::path& file : kept) std::ofstream(file) << "not of the set";
  std::vector<fs::path> old;
  for (int i = 1; i <= 3; ++i) old.push_back(folder_ / cat("x-0000", i, "-of-00003.safetensors"));
  bool reached = true;
  for (int call = 0; reached; ++call) {
    write(1);
    const FaultyDisk disk(folder_.path().string() + "/x", Fault::no_space, call);
    bool written = true;
    try {
      EXPECT_EQ(write_safetensors_shards(file_, newer_source, FloatFormat::f32, 152, {}).removed, old);
    } catch (const Error&) {
      written = false;
    }
    reached = disk.reached();
    EXPECT_EQ(written, !reached);
    const bool is_there = fs::exists(index_);
    const bool is_new = is_there && read_file(index_).find("-of-00002") != std::string::npos;
    if (is_there) expect_holds(SafetensorsShards(index_), is_new ? newer : state_);
    for (const fs::path& file : old) EXPECT_TRUE(fs::exists(file) ? !written : is_new) << file << " " << call;
    for (const fs::path& file : kept) EXPECT_TRUE(fs::exists(file)) << file;
  }
}

// Whoever wrote the older index.
TEST_F(SafetensorsShardsTest, AnOlderIndexIsNotFollowedElsewhere) {
  const fs::path below = folder_ / "below", file = below / "x.safetensors";
  fs::create_directory(below);
  const auto name = [](int i) { return cat("x-0000", i, "-of-00009.safetensors"); };
  const fs::path others[] = {folder_ / name(1), below / "y-00001-of-00009.safetensors", below / "x.h5",
                             below / "x-1-of-9.safetensors", below / (name(2) + ".safetensors")};
  for (const fs::path& other : others) std::ofstream(other) << "somebody's";
  std::ofstream(below / name(3)) << "of the set";
  fs::create_symlink(others[0], below / name(4));
  fs::create_directory(below / name(5));
  std::ofstream(below / name(8)) << "where the first of the new ones goes";
  fs::create_symlink(below / name(8), below / "x-00001-of-00002.safetensors");
  const std::string names[] = {"../" + name(1),
                               others[0].string(),
                               "y-00001-of-00009.safetensors",
                               "x.h5",
                               "x-1-of-9.safetensors",
                               name(2) + ".safetensors",
                               name(3),
                               name(4),
                               name(5),
                               name(6),
                               name(8)};
  nlohmann::json index;
  for (size_t i = 0; i < std::size(names); ++i) index["weight_map"][cat("t", i)] = names[i];
  std::ofstream(below / "x.safetensors.index.json") << index;
  const auto again = [&] { return write_safetensors_shards(file, source_, FloatFormat::f32, 152, {}); };
  EXPECT_EQ(again().removed, std::vector{below / name(3)});
  EXPECT_FALSE(fs::exists(below / name(3)));
  for (const fs::path& other : others) EXPECT_TRUE(fs::exists(other)) << other;
  EXPECT_TRUE(fs::is_symlink(below / name(4)) && fs::is_directory(below / name(5)));
  EXPECT_GT(fs::file_size(below / name(8)), 100u);
  fs::remove(below / "x-00001-of-00002.safetensors");
  std::ofstream(below / "x.safetensors.index.json") << "no index";
  EXPECT_EQ(again().removed.size(), 0u);
  expect_holds(SafetensorsShards(below / "x.safetensors.index.json"), state_);
}

TEST_F(SafetensorsShardsTest, NoPathLeadsOutOfTheFolder) {
  write(248);
  const auto index = [](const std::string& file) { return R"({"weight_map":{"a":")" + file + "\"}}"; };
  for (const char* name : {"../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..", "", ".safetensors",
                           "x.h5", "..\\\\x.safetensors"})
    expect_refused(index(name), {"is not the name of a .safetensors file beside it", "do not trust"});
  fs::create_symlink("/etc/hostname", folder_ / "link.safetensors");
  std::ofstream(index_) << index("link.safetensors");
  expect_error(Exit::bad_input, {"link.safetensors cannot be read"}, [&] { SafetensorsShards{index_}; });
}

TEST_F(SafetensorsShardsTest, IndexesThatLie) {
  write(248);
  expect_refused(R"({"weight_map":{"a":"x.safetensors","b":"x.safetensors"}})",
                 {"x.safetensors has 3 tensors", "2 of"});
  expect_refused(R"({"weight_map":{"a":"x.safetensors","d":"x.safetensors"}})", {"has d in x.safetensors"});
  expect_refused(R"({"weight_map":{"a":"x.safetensors","a":"x.safetensors"}})", {"a twice"});
  expect_refused(R"({"weight_map":{},"weight_map":{}})", {"weight_map twice"});
  expect_refused(R"({"weight_map":{}})", {"no weight_map"});
  expect_refused(R"({"metadata":{"total_size":3}})", {"no weight_map"});
  expect_refused(R"({"weight_map":"x.safetensors"})", {"no object under weight_map"});
  expect_refused(R"({"weight_map":["x.safetensors"]})", {"more than names"});
  expect_refused(R"({"weight_map":{"a":{"b":"c"}}})", {"more than names"});
  expect_refused(R"({"weight_map":{"a":1}})", {"more than names"});
  expect_refused(R"([1])", {"no object"});
  expect_refused("", {"no JSON"});
  expect_refused(R"({"metadata":)" + std::string(1 << 20, '['), {"nested too deep"});
  std::ofstream(index_) << R"({"weight_map":{"a":"gone.safetensors"}})";
  expect_error(Exit::bad_input, {"gone.safetensors cannot be read"}, [&] { SafetensorsShards{index_}; });
}

}  // namespace
}  // namespace gf
