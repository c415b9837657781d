// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <ctime>
#include <fstream>

#include "io/checkpoint/checkpoint_samples.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/temp_folder.h"
#include "tensor/float_formats.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class Safetensors : public testing::Test {
 protected:
  TempFolder folder_;
  fs::path file_ = folder_ / "x.safetensors";

  void write_raw(const std::string& header, size_t data_bytes, uint64_t length) const {
    std::ofstream out(file_, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), 8);
    out << header << std::string(data_bytes, '\1');
  }
  void write_raw(const std::string& header, size_t data_bytes) const { write_raw(header, data_bytes, header.size()); }
  void expect_refused(const std::string& header, size_t data_bytes, const std::vector<std::string>& pieces) const {
    write_raw(header, data_bytes);
    std::vector<std::string> all = pieces;
    all.push_back(file_.string());
    expect_error(Exit::bad_input, all, [&] { SafetensorsReader{file_}; });
  }
};

TEST_F(Safetensors, RoundTripOfEveryFormat) {
  const auto state = sample_state();  // small whole numbers: exact in f16, and in bf16 up to 256
  const CheckpointReader source(write_as_ranks(folder_.path(), state, 3));
  for (const FloatFormat format : {FloatFormat::f32, FloatFormat::f16, FloatFormat::bf16}) {
    write_safetensors(file_, source, format);
    const SafetensorsReader reader(file_);
    ASSERT_EQ(reader.entries().size(), 3u);  // no optimizer state
    EXPECT_EQ(reader.metadata().at("format"), "pt");
    const Named& emb = state[0];
    const auto blank = blank_like({state[0]});
    reader.read(std::vector{blank[0].view(4, 30)});
    for (int64_t i = 0; i < 35; ++i)
      EXPECT_EQ(blank[0].tensor.data<float>()[i], i < 4 || i >= 30 ? -1.f : emb.tensor.data<float>()[i]);
    const auto cube = blank_like({state[1]});
    reader.read(views_of(cube));
    for (int64_t i = 0; i < 24; ++i) {
      const float x = state[1].tensor.data<float>()[i];
      EXPECT_EQ(cube[0].tensor.data<float>()[i], format == FloatFormat::bf16 ? float_from_bf16(bf16_from_float(x)) : x);
    }
  }
}

TEST_F(Safetensors, ValueTooLargeForF16IsRefusedAndTheOldFileStays) {
  const std::vector<Named> state{{"model/a", Tensor::of<float>({2}, {1.f, 70000.f})}};
  const CheckpointReader source(write_as_ranks(folder_.path(), state, 1));
  write_safetensors(file_, source, FloatFormat::f32);
  expect_error(Exit::bad_input, {"model/a", "70000", "65504"},
               [&] { write_safetensors(file_, source, FloatFormat::f16); });
  expect_holds(SafetensorsReader(file_), state);
  EXPECT_FALSE(fs::exists(file_.string() + ".partial"));
}

TEST_F(Safetensors, FullDiskLeavesTheOldFile) {
  const auto old = sample_state(1), state = sample_state(2);
  const CheckpointReader old_source(write_as_ranks(folder_.path(), old, 1, 1)),
      source(write_as_ranks(folder_.path(), state, 1, 2));
  bool reached = true;
  for (int call = 0; reached; ++call) {
    write_safetensors(file_, old_source, FloatFormat::f32);
    const FaultyDisk disk(file_.string(), Fault::no_space, call);
    bool written = true;
    try {
      write_safetensors(file_, source, FloatFormat::f32);
    } catch (const Error& e) {
      written = false;
      EXPECT_NE(std::string(e.what()).find(file_.string()), std::string::npos) << e.what();
    }
    reached = disk.reached();
    EXPECT_EQ(written, !reached);
    const auto& whole = written ? state : old;
    expect_holds(SafetensorsReader(file_), {whole[0], whole[1], whole[2]});
  }
}

TEST_F(Safetensors, OtherTypesAreRefusedOnlyWhereTheyAreNeeded) {
  write_raw(
      R"({"a":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},)"
      R"("c":{"dtype":"F32","shape":[],"data_offsets":[20,24]},"d":{"dtype":"X9","shape":[3],"data_offsets":[24,25]},)"
      R"("e":{"dtype":"F32","shape":[0],"data_offsets":[25,25]}})",
      25);
  const SafetensorsReader reader(file_);
  ASSERT_EQ(reader.entries().size(), 1u);
  float value = 0;
  reader.read(std::vector<ShardView>{{"model/b", DType::f32, {1}, 0, 1, reinterpret_cast<std::byte*>(&value)}});
  EXPECT_NE(value, 0);
  const auto ask = [&](const std::string& name) {
    reader.read(std::vector<ShardView>{{"model/" + name, DType::f32, {2}, 0, 0, nullptr}});
  };
  expect_error(Exit::bad_input, {"a in", file_.string(), "I64", "BF16"}, [&] { ask("a"); });
  expect_error(Exit::bad_input, {"c in", "0 dimensions"}, [&] { ask("c"); });
  expect_error(Exit::bad_input, {"d in", "X9"}, [&] { ask("d"); });
  expect_error(Exit::bad_input, {"e in", "no elements"}, [&] { ask("e"); });
  expect_error(Exit::bad_input, {"f is 2 in the model and not in the checkpoint"}, [&] { ask("f"); });
  expect_error(Exit::bad_input, {"b is 2 in the model and 1 in the checkpoint"}, [&] { ask("b"); });
}

// Names of a model that was wrapped when it was saved.
TEST_F(Safetensors, ALongerNameIsTold) {
  write_raw(R"({"module.b.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  const SafetensorsReader reader(file_);
  const std::vector<ShardView> asked{{"model/b.weight", DType::f32, {1}, 0, 0, nullptr}};
  expect_error(Exit::bad_input,
               {"b.weight is not in the checkpoint", "which has module.b.weight", "do not begin with module."},
               [&] { reader.read(asked); });
}

// An import reads tensors one by one: what a read takes does not grow with how many there are.
TEST_F(Safetensors, AReadLooksAtItsOwnTensors) {
  constexpr int kTensors = 20000, kReads = 1000;
  std::string header = "{";
  for (int i = 0; i < kTensors; ++i)
    header +=
        cat(i ? "," : "", "\"", i, R"(":{"dtype":"F32","shape":[1],"data_offsets":[)", 4 * i, ",", 4 * i + 4, "]}");
  write_raw(header + "}", 4 * kTensors);
  const std::clock_t begin = std::clock();  // of this process alone
  const SafetensorsReader reader(file_);
  const std::clock_t opened = std::clock();
  for (int i = 0; i < kReads; ++i) {
    float value = 0;
    reader.read(std::vector<ShardView>{
        {cat("model/", kTensors - 1 - i), DType::f32, {1}, 0, 1, reinterpret_cast<std::byte*>(&value)}});
    ASSERT_NE(value, 0);
  }
  // Opening looks at each once; a thousandth of that for a read would be more than it takes.
  EXPECT_LT(std::clock() - opened, opened - begin);
}

TEST_F(Safetensors, LyingLengths) {
  for (const uint64_t length : {uint64_t{3}, uint64_t{1} << 20, uint64_t{100'000'001}, UINT64_MAX, uint64_t{1} << 63}) {
    write_raw("{}", 0, length);
    expect_error(Exit::bad_input, {file_.string(), std::to_string(length), "10"}, [&] { SafetensorsReader{file_}; });
  }
  std::ofstream(file_) << "1234";
  expect_error(Exit::bad_input, {file_.string(), "4 bytes"}, [&] { SafetensorsReader{file_}; });
}

TEST_F(Safetensors, LyingOffsets) {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return "{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  expect_refused(one("F32", "[2]", "[0,8]"), 4, {"a lies at", "0 to 8", "4 bytes"});
  expect_refused(one("F32", "[2]", "[0,8]"), 12, {"end at byte 8 of 12"});
  expect_refused(one("F32", "[2]", "[4,12]"), 12, {"4 to 12", "ends at 0"});
  expect_refused(one("F32", "[2]", "[8,0]"), 8, {"8 to 0"});
  expect_refused(one("F32", "[3]", "[0,8]"), 8, {"3 of F32", "8 bytes"});
  expect_refused(one("F32", "[9223372036854775807,9223372036854775807]", "[0,8]"), 8, {"9223372036854775807"});
  expect_refused(one("F32", "[4611686018427387904,4]", "[0,0]"), 0, {"4611686018427387904x4"});
  expect_refused(one("F32", "[0,4611686018427387904,4]", "[0,8]"), 8, {"8 bytes"});
  expect_refused(one("F32", "[99999999999999999999]", "[0,8]"), 8, {"99999999999999999999"});
  expect_refused(one("F32", "[-2]", "[0,8]"), 8, {"-2"});
  expect_refused(one("F32", "[2.5]", "[0,8]"), 8, {"2.5"});
  expect_refused(one("F32", "[2]", "[0,4,8]"), 8, {"3 data_offsets"});
  expect_refused(one("F32", "[2]", "[]"), 8, {"0 data_offsets"});
  expect_refused(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      4, {"b lies at bytes 0 to 4", "ends at 4"});
}

TEST_F(Safetensors, LyingHeaders) {
  const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  expect_refused("{" + a + "," + a + "}", 4, {"same name twice", "\"a\""});
  expect_refused(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, {"\"dtype\" twice"});
  expect_refused(R"({"a":{"dtype":"F32","shape":[1]}})", 4, {"no data_offsets"});
  expect_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":[1]}})", 4, {"unknown field more"});
  expect_refused(R"({"a":{"dtype":3,"shape":[1],"data_offsets":[0,4]}})", 4, {"a number"});
  expect_refused(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, {"a list"});
  expect_refused(R"({"a":{"dtype":"F32","shape":{"b":1},"data_offsets":[0,4]}})", 4, {"an object"});
  expect_refused(R"({"a":[0,4]})", 4, {"a list"});
  expect_refused(R"({"a":null})", 4, {"null"});
  expect_refused(R"({"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, {"empty"});
  expect_refused(R"({"a\u0000b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, {"control characters"});
  expect_refused(R"({"a\u009b2Jb":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, {"control characters"});
  expect_refused("{\"" + std::string(1001, 'a') + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
                 {"more than 1000 bytes"});
  expect_refused("{\"\xff\":{}}", 0, {"no JSON"});
  expect_refused("{" + a, 4, {"no JSON"});
  expect_refused("{} {}", 0, {"no JSON"});
  expect_refused("[" + a + "]", 4, {"does not begin with {"});
  expect_refused("", 0, {"does not begin with {"});
  expect_refused(R"({"__metadata__":{"a":1}})", 0, {"a number"});
  expect_refused("{\"a\":{\"shape\":" + std::string(1 << 20, '['), 0, {"a list"});
  const std::string many(1 << 20, 'x');
  for (const std::string& lying :
       {"{\"" + many + "\":null}", R"({"a":{"dtype":"F32",")" + many + "\":1}}",
        R"({"a":{"dtype":"F32","shape":[0.)" + std::string(1 << 20, '1') + "]}}", "{\"" + many,
        "{\"" + many + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})"}) {
    write_raw(lying, 4);
    try {
      SafetensorsReader{file_};
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      EXPECT_LT(std::string(e.what()).size(), file_.string().size() + 500) << std::string(e.what()).substr(0, 1000);
    }
  }
  std::string dims = "1";
  for (int i = 0; i < 100; ++i) dims += ",1";
  expect_refused(R"({"a":{"dtype":"F32","shape":[)" + dims + R"(],"data_offsets":[0,4]}})", 4, {"an impossible shape"});
}

}  // namespace
}  // namespace gf
