// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/pth/pth.h"

#include <gtest/gtest.h>

#include <bit>
#include <fstream>

#include "io/checkpoint/pth/pth_samples.h"
#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

std::vector<float> values_of(const TensorSource& source, const std::string& name, int64_t begin, int64_t end) {
  const TensorSource::Entry& e = *source.find(cat(kModelPrefix, name));
  std::vector<float> values(static_cast<size_t>(end - begin));
  source.read(
      std::vector<ShardView>{{e.name, e.dtype, e.shape, begin, end, reinterpret_cast<std::byte*>(values.data())}});
  return values;
}

class Pth : public testing::Test {
 protected:
  TempFolder folder_;
  fs::path file_ = folder_ / "x.pth";
  void write(const std::string& bytes) const { std::ofstream(file_, std::ios::binary) << bytes; }
  void expect_refused(const std::string& bytes, std::vector<std::string> pieces) const {
    write(bytes);
    pieces.push_back(file_.string());
    expect_error(Exit::bad_input, pieces, [&] { PthReader(file_).verify(); });
  }
  void expect_tensor_refused(const std::string& tensor, const std::vector<std::string>& pieces) const {
    expect_refused(pth::pth_of(pth::pickle(pth::dict({{"a", tensor}})), {pth::six_floats()}), pieces);
  }
};

// Files that torch itself wrote: see make_samples.py for what is in them.
class TorchFiles : public testing::TestWithParam<const char*> {
 protected:
  PthReader reader_{fs::path(GF_SOURCE_DIR) / "tests/fuzz/corpus/pth" / GetParam()};
};

TEST_P(TorchFiles, AreReadBitByBit) {
  const std::vector<std::pair<std::string, Shape>> expected = {{"blocks.0.att.key.weight", {3, 4}},
                                                               {"blocks.0.att.output.weight", {2, 3, 4}},
                                                               {"blocks.0.att.time_maa_x", {1, 1, 3}},
                                                               {"blocks.0.att.value.weight", {4, 3}},
                                                               {"blocks.0.ffn.key.weight", {2, 3}},
                                                               {"blocks.0.ffn.receptance.weight", {2, 2}},
                                                               {"blocks.0.ffn.value.weight", {4}},
                                                               {"blocks.0.ln0.bias", {6}},
                                                               {"emb.weight", {5, 3}},
                                                               {"head.weight", {1, 1}}};
  ASSERT_EQ(reader_.entries().size(), expected.size());
  EXPECT_TRUE(reader_.unreadable().empty());
  reader_.verify();
  for (size_t t = 0; t < expected.size(); ++t) {
    const auto& [name, shape] = expected[t];
    SCOPED_TRACE(name);
    EXPECT_EQ(reader_.entries()[t].name, cat(kModelPrefix, name));
    ASSERT_EQ(reader_.entries()[t].shape, shape);
    if (name.ends_with("bias")) continue;
    for (int64_t begin = 0; begin < shape.numel(); ++begin)  // every range, so that each kind of view is cut anywhere
      for (int64_t end = begin + 1; end <= shape.numel(); ++end) {
        const std::vector<float> values = values_of(reader_, name, begin, end);
        for (int64_t i = begin; i < end; ++i)
          ASSERT_EQ(values[static_cast<size_t>(i - begin)], static_cast<float>(i) / 8 - 1) << begin << " to " << end;
      }
  }
  const std::vector<uint32_t> bits{0x7fc12345, 0x7f800000, 0xff800000, 0x80000000, 1, 0x3f800001};
  const std::vector<float> special = values_of(reader_, "blocks.0.ln0.bias", 0, 6);
  for (size_t i = 0; i < bits.size(); ++i) EXPECT_EQ(std::bit_cast<uint32_t>(special[i]), bits[i]);
}

INSTANTIATE_TEST_SUITE_P(Of, TorchFiles, testing::Values("zip", "zip_protocol_4", "zip_without_checksums", "legacy"),
                         [](const auto& test) { return std::string(test.param); });

TEST_F(Pth, SamplesWrittenHereAreRead) {
  write(pth::small_pth());
  const PthReader reader(file_);
  EXPECT_EQ(values_of(reader, "emb.weight", 1, 5), (std::vector<float>{1, 2, 3, 4}));
}

TEST_F(Pth, WhatIsNoTensorToReadIsNamed) {
  write(pth::pth_of(pth::pickle(pth::dict({{"epoch", pth::integer(3)},
                                           {"ids", pth::tensor(pth::storage("1", 3, "LongStorage"), 0, {3}, {1})},
                                           {"scalar", pth::tensor(pth::storage("0", 6), 2, {}, {})},
                                           {"none", pth::tensor(pth::storage("0", 6), 6, {0}, {1})},
                                           {"a/b", pth::tensor(pth::storage("0", 6), 0, {6}, {1})},
                                           {"w", pth::tensor(pth::storage("0", 6), 0, {6}, {1})}})),
                    {pth::six_floats(), std::string(24, '\0')}));
  const PthReader reader(file_);
  ASSERT_EQ(reader.entries().size(), 1u);
  EXPECT_EQ(reader.entries()[0].name, "model/w");
  const auto ask = [&](const std::string& name) {
    reader.read(std::vector<ShardView>{{"model/" + name, DType::f32, {3}, 0, 0, nullptr}});
  };
  expect_error(Exit::bad_input, {"epoch in", file_.string(), "is an integer"}, [&] { ask("epoch"); });
  expect_error(Exit::bad_input, {"ids in", "LongStorage", "BFloat16Storage"}, [&] { ask("ids"); });
  expect_error(Exit::bad_input, {"scalar in", "0 dimensions"}, [&] { ask("scalar"); });
  expect_error(Exit::bad_input, {"none in", "no elements"}, [&] { ask("none"); });
  expect_error(Exit::bad_input, {"a/b in", "has a / in its name"}, [&] { ask("a/b"); });
}

TEST_F(Pth, NestedDictionariesAreExplained) {
  expect_refused(pth::pth_of(pth::pickle(pth::dict({{"epoch", pth::integer(3)}, {"state_dict", pth::dict({})}})), {}),
                 {"without tensors", "epoch (an integer), state_dict (a dict)", "model.state_dict()"});
}

TEST_F(Pth, SizesPastTheEnd) {
  const std::string six = pth::storage("0", 6);
  expect_tensor_refused(pth::tensor(six, 0, {7}, {1}), {"sizes (7)", "6 elements"});
  expect_tensor_refused(pth::tensor(six, 1, {2, 3}, {3, 1}), {"from element 1 on"});
  expect_tensor_refused(pth::tensor(six, 0, {2, 3}, {4, 1}), {"strides (4, 1)"});
  expect_tensor_refused(pth::tensor(six, 0, {INT64_MAX, INT64_MAX}, {0, 0}), {"9223372036854775807"});
  expect_tensor_refused(pth::tensor(six, 0, {2}, {INT64_MAX}), {"9223372036854775807"});
  expect_tensor_refused(pth::tensor(six, INT64_MAX, {2}, {1}), {"9223372036854775807"});
  expect_tensor_refused(pth::tensor(six, -1, {2}, {1}), {"no offset"});
  expect_tensor_refused(pth::tensor(six, 0, {-2}, {1}), {"no sizes"});
  expect_tensor_refused(pth::tensor(six, 0, {2}, {-1}), {"no strides"});
  expect_tensor_refused(pth::tensor(six, 0, {2, 3}, {1}), {"2 sizes and 1 strides"});
  expect_tensor_refused(pth::tensor(pth::storage("0", 7), 0, {7}, {1}), {"24 bytes", "7 elements of 4 bytes"});
  expect_tensor_refused(pth::tensor(pth::storage("0", INT64_MAX), 0, {7}, {1}), {"24 bytes"});
  expect_tensor_refused(pth::tensor(pth::storage("5", 6), 0, {6}, {1}), {"no archive/data/5"});
  // Bytes that are there once, asked for again and again.
  expect_tensor_refused(pth::tensor(six, 0, {1 << 20}, {0}), {"repeat their elements", "with a"});
}

TEST_F(Pth, EveryShorterFileIsRefused) {
  for (const std::string& whole : {pth::small_pth(), read_file(fs::path(GF_SOURCE_DIR) / "tests/fuzz/corpus/pth/zip"),
                                   read_file(fs::path(GF_SOURCE_DIR) / "tests/fuzz/corpus/pth/legacy")}) {
    write(whole);
    for (size_t length = whole.size(); length-- > 0;) {
      SCOPED_TRACE(length);
      fs::resize_file(file_, length);
      expect_error(Exit::bad_input, {file_.string()}, [&] { PthReader(file_).verify(); });
    }
  }
}

TEST_F(Pth, LegacyFilesThatContradictThemselves) {
  const std::string whole = read_file(fs::path(GF_SOURCE_DIR) / "tests/fuzz/corpus/pth/legacy");
  expect_refused(whole + "x", {"storages end at byte"});
  std::string other = whole;
  other[4] ^= 1;  // of the number that such a file begins with
  expect_refused(other, {"not how a file of torch.save begins"});
  const size_t endian = whole.find("little_endian");
  ASSERT_NE(endian, std::string::npos);
  other = whole;
  const size_t truth = other.find('\x88', endian);
  other[truth] = '\x89';
  expect_refused(other, {"big-endian"});
}

TEST_F(Pth, DamageIsSeen) {
  std::string bytes = pth::small_pth();
  bytes[bytes.find(pth::six_floats()) + 7] ^= 1;
  expect_refused(bytes, {"archive/data/0", "checksum", "fetch it again"});
}

TEST_F(Pth, OtherFilesAreRefused) {
  expect_refused("", {"neither as a zip file nor as a pickle"});
  expect_refused("{}", {"neither"});
  expect_refused(pth::zip_of({{"archive/version", "3"}}), {"without a data.pkl"});
  expect_refused(pth::zip_of({{"a/data.pkl", pth::small_pickle()}, {"b/data.pkl", pth::small_pickle()}}),
                 {"more than one data.pkl"});
  expect_refused(pth::zip_of({{"a/data.pkl", pth::small_pickle()}, {"a/byteorder", "big"}, {"a/data/0", "x"}}),
                 {"big-endian"});
  expect_refused(pth::zip_of({{"a/data.pkl", std::string((16 << 20) + 1, 'N')}}), {"at most 16777216"});
}

}  // namespace
}  // namespace gf
