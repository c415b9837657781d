// SPDX-License-Identifier: Apache-2.0
// Tests of the published RWKV World vocabulary. Built where its file is (GF_WORLD_VOCAB, see tests/CMakeLists.txt).
#include <gtest/gtest.h>

#include "base/random.h"
#include "io/text/vocabulary.h"

namespace gf {
namespace {

class PublishedVocabulary : public ::testing::Test {
 protected:
  std::vector<int32_t> encode(std::string_view text) const {
    std::vector<int32_t> tokens;
    vocabulary_->encode(text, tokens);
    return tokens;
  }
  void round_trip(const std::string& text) const { EXPECT_EQ(vocabulary_->decode(encode(text)), text); }

  std::unique_ptr<Vocabulary> vocabulary_ = Vocabulary::open(GF_WORLD_VOCAB);
};

TEST_F(PublishedVocabulary, HasThePublishedSize) {
  EXPECT_EQ(vocabulary_->size(), 65536);
  EXPECT_EQ(vocabulary_->longest_token(), 128u);
}

TEST_F(PublishedVocabulary, EveryTokenIsItsOwnEncoding) {
  for (int32_t id = 1; id <= 65529; ++id) {
    ASSERT_EQ(encode(vocabulary_->decode(std::vector<int32_t>{id})), std::vector<int32_t>{id});
  }
}

TEST_F(PublishedVocabulary, RoundTripOfAnyBytes) {
  round_trip("");
  round_trip("The quick brown fox\r\n\tjumps \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x90\xA6\n");
  round_trip("\xC3(\xE4\xBD\xFF\xFE\x80 broken UTF-8 \xF0\x9F");
  round_trip(std::string(1000, '\0'));
  round_trip(std::string(1000, ' '));
  const Random random(1, "bytes");
  std::string bytes(200'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(random.bits(i));
  round_trip(bytes);
  for (char& c : bytes) c = static_cast<char>(' ' + static_cast<unsigned char>(c) % 95);
  round_trip(bytes);
}

}  // namespace
}  // namespace gf
