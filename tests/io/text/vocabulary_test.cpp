// SPDX-License-Identifier: Apache-2.0
#include "io/text/vocabulary.h"

#include <gtest/gtest.h>

#include <numeric>
#include <unordered_map>

#include "base/random.h"
#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"
#include "support/world_file.h"

namespace gf {
namespace {

std::vector<int32_t> encode(const Vocabulary& vocabulary, std::string_view text) {
  std::vector<int32_t> tokens;
  vocabulary.encode(text, tokens);
  return tokens;
}

// As tokenize() does it, in parts of the given length.
std::vector<int32_t> encode_in_parts(const Vocabulary& vocabulary, std::string_view text, size_t length) {
  std::vector<int32_t> tokens;
  std::string pending;
  for (; !text.empty(); text.remove_prefix(std::min(length, text.size()))) {
    pending += text.substr(0, length);
    pending.erase(0, vocabulary.encode_part(pending, false, tokens));
    EXPECT_LT(pending.size(), vocabulary.longest_token());
  }
  vocabulary.encode_part(pending, true, tokens);
  return tokens;
}

std::string all_bytes() {
  std::string all(256, '\0');
  std::iota(all.begin(), all.end(), '\0');
  return all;
}

class VocabularyFiles : public ::testing::Test {
 protected:
  std::unique_ptr<Vocabulary> open(const std::string& content) {
    write_file(path_, content);
    return Vocabulary::open(path_);
  }
  void refused(const std::string& content, std::initializer_list<std::string> parts) {
    expect_refused(parts, [&] { open(content); });
  }

  TempFolder folder_;
  std::string path_ = folder_ / "vocab.txt";
};

TEST(ByteVocabulary, IsBytePlusOne) {
  const auto bytes = Vocabulary::open("byte");
  EXPECT_EQ(bytes->size(), 257);
  EXPECT_EQ(encode(*bytes, "AZ"), (std::vector<int32_t>{66, 91}));
  const auto tokens = encode(*bytes, all_bytes());
  for (int i = 0; i < 256; ++i) EXPECT_EQ(tokens[static_cast<size_t>(i)], i + 1);
  EXPECT_EQ(bytes->decode(tokens), all_bytes());
  EXPECT_EQ(bytes->decode(std::vector<int32_t>{66, 0, 67}), "AB");
  expect_refused({"token 257", "of 257"}, [&] { bytes->decode(std::vector<int32_t>{257}); });
  expect_refused({"token -1", "of 257"}, [&] { bytes->decode(std::vector<int32_t>{-1}); });
}

TEST_F(VocabularyFiles, TakesTheLongestToken) {
  const auto vocabulary = open(world_file({"th", "the", "there", " the"}));
  EXPECT_EQ(encode(*vocabulary, "there the thx ther"),
            (std::vector<int32_t>{259, 260, ' ' + 1, 257, 'x' + 1, 260, 'r' + 1}));
  EXPECT_EQ(vocabulary->longest_token(), 5u);
  EXPECT_EQ(vocabulary->decode(std::vector<int32_t>{259, 0, 260}), "there the");
}

TEST_F(VocabularyFiles, SizeIsRoundedUpAndGapsAreEmpty) {
  EXPECT_EQ(open(world_file({}))->size(), 320);  // numbers to 256
  const auto vocabulary = open(world_file({}) + world_line(65529, "xyz"));
  EXPECT_EQ(vocabulary->size(), 65536);
  EXPECT_EQ(vocabulary->decode(std::vector<int32_t>{300, 65529, 65535}), "xyz");
  expect_refused({"token 65536", "of 65536"}, [&] { vocabulary->decode(std::vector<int32_t>{65536}); });
  EXPECT_EQ(open(world_file({}) + world_line(383, "ab"))->size(), 384);
  EXPECT_EQ(open(world_file({}) + world_line(384, "ab"))->size(), 448);
}

TEST_F(VocabularyFiles, ReadsStrAndBytesLiterals) {
  const auto vocabulary =
      open(world_file({}) + "400 \"it's\" 4\r\n401 '\xE4\xBD\xA0' 3\n402 b'\\xe4\\xbd' 2\n\n403 '\\u00e4 b' 4");
  EXPECT_EQ(encode(*vocabulary, "it's\xE4\xBD\xA0\xE4\xBD\xC3\xA4 b"), (std::vector<int32_t>{400, 401, 402, 403}));
}

TEST_F(VocabularyFiles, RefusesBadLinesByNumber) {
  const std::string good = world_file({});
  const auto line = path_ + ":257: ";
  refused(good + "300 'abc' 4\n", {line, "has 3 bytes", "says 4"});
  refused(good + "300 'abc' -3\n", {line, "has 3 bytes", "says -3"});
  refused(good + "300 'abc'\n", {line, "not of the form"});
  refused(good + "300\n", {line, "not of the form"});
  refused(good + " \n", {line, "not of the form"});
  refused(good + "x 'abc' 3\n", {line, "not of the form"});
  refused(good + "99999999999999999999 'abc' 3\n", {line, "not of the form"});
  refused(good + "300 'abc' 3x\n", {line, "not of the form"});
  refused(good + "300 abc 3\n", {line, "no Python string"});
  refused(good + "300 'abc 3\n", {line, "closing"});
  refused(good + "300 '' 0\n", {line, "no bytes"});
  refused(good + "0 'abc' 3\n", {line, "number is 0", "ends a document"});
  refused(good + "-4 'abc' 3\n", {line, "number is -4"});
  refused(good + "16777216 'abc' 3\n", {line, "number is 16777216", "16777215"});
  refused(good + "66 'abc' 3\n", {line, "number 66", "line 66 already"});
  refused(good + "300 'A' 1\n", {line, "token 300", "line 66 already"});
}

TEST_F(VocabularyFiles, RefusesWhatCannotEncodeEveryByte) {
  std::string file = world_file({"ab"});
  const std::string line = world_line('Q' + 1, "Q");
  file.erase(file.find(line), line.size());
  refused(file, {path_, "single byte 81"});
  refused("", {path_, "single byte 0"});
}

TEST_F(VocabularyFiles, RefusesWhatIsNoFile) {
  expect_refused({"nowhere", "No such file", "--vocab byte"}, [&] { Vocabulary::open(folder_ / "nowhere"); });
  expect_refused({"is a folder"}, [&] { Vocabulary::open(folder_.path()); });
  write_file(path_, "");
  std::filesystem::resize_file(path_, (64 << 20) + 1);
  expect_refused({"67108865 bytes: no vocabulary"}, [&] { Vocabulary::open(path_); });
}

// A stand-in for the published vocabulary, of its size.
class LargeVocabulary : public VocabularyFiles {
 protected:
  std::vector<std::string> tokens_ = made_up_tokens(65'000);
  std::unique_ptr<Vocabulary> vocabulary_ = open(world_file(tokens_));
};

TEST_F(LargeVocabulary, AgreesWithTheNaiveLongestMatch) {
  std::unordered_map<std::string, int32_t> ids;
  for (int i = 0; i < 256; ++i) ids[std::string(1, static_cast<char>(i))] = i + 1;
  for (size_t i = 0; i < tokens_.size(); ++i) ids[tokens_[i]] = static_cast<int32_t>(i) + 257;
  const std::string text = made_up_text(tokens_, 50'000, 2);
  std::vector<int32_t> naive;
  for (size_t at = 0; at < text.size();) {
    size_t n = std::min<size_t>(12, text.size() - at);
    while (!ids.contains(text.substr(at, n))) --n;
    naive.push_back(ids[text.substr(at, n)]);
    at += n;
  }
  EXPECT_LT(naive.size(), text.size() / 2);  // else the text would not try long matches
  EXPECT_EQ(encode(*vocabulary_, text), naive);
}

TEST_F(LargeVocabulary, RoundTripOfAnyBytes) {
  const Random random(3, "bytes");
  for (const size_t length : {0, 1, 2, 100, 100'000}) {
    std::string text(length, '\0');
    for (size_t i = 0; i < length; ++i) text[i] = static_cast<char>(random.bits(i));
    EXPECT_EQ(vocabulary_->decode(encode(*vocabulary_, text)), text);
  }
  const std::string text = made_up_text(tokens_, 100'000, 4);
  EXPECT_EQ(vocabulary_->decode(encode(*vocabulary_, text)), text);
}

TEST_F(LargeVocabulary, PartsGiveTheSameTokens) {
  const std::string text = made_up_text(tokens_, 20'000, 5);
  const auto whole = encode(*vocabulary_, text);
  for (const size_t length : {1, 2, 3, 11, 12, 13, 1000, 19'999, 20'000, 30'000}) {
    EXPECT_EQ(encode_in_parts(*vocabulary_, text, length), whole) << length;
  }
}

}  // namespace
}  // namespace gf
