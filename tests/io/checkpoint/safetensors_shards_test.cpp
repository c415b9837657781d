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
    for (const fs::path& path : write_safetensors_shards(file_, source_, format, most_bytes, {{"config", "model: {}"}}))
      names.push_back(path.filename().string());
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
