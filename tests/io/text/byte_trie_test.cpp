// SPDX-License-Identifier: Apache-2.0
#include "io/text/byte_trie.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "support/world_file.h"

namespace gf {
namespace {

using Strings = std::vector<std::pair<std::string, int32_t>>;

Strings sorted(const std::vector<std::string>& texts) {
  Strings strings;
  for (size_t i = 0; i < texts.size(); ++i) strings.emplace_back(texts[i], static_cast<int32_t>(i) + 1);
  std::ranges::sort(strings);
  return strings;
}

std::pair<int32_t, size_t> longest(const ByteTrie& trie, const std::string& text) {
  const auto* begin = reinterpret_cast<const unsigned char*>(text.data());
  const auto match = trie.longest(begin, begin + text.size());
  return {match.value, static_cast<size_t>(match.end - begin)};
}

using Found = std::pair<int32_t, size_t>;

TEST(ByteTrie, TakesTheLongest) {
  const ByteTrie trie(sorted({"a", "abc", "abcdef", "b", std::string("\0", 1), std::string("\0\xFF", 2)}));
  EXPECT_EQ(longest(trie, "abcdefg"), Found(3, 6));
  EXPECT_EQ(longest(trie, "abcdeg"), Found(2, 3));
  EXPECT_EQ(longest(trie, "abx"), Found(1, 1));
  EXPECT_EQ(longest(trie, "b"), Found(4, 1));
  EXPECT_EQ(longest(trie, "c"), Found(0, 0));
  EXPECT_EQ(longest(trie, ""), Found(0, 0));
  EXPECT_EQ(longest(trie, std::string("\0\0", 2)), Found(5, 1));
  EXPECT_EQ(longest(trie, std::string("\0\xFF", 2)), Found(6, 2));
}

TEST(ByteTrie, NothingMatchesInAnEmptySet) {
  const ByteTrie trie({});
  for (int byte = 0; byte < 256; ++byte) EXPECT_EQ(longest(trie, std::string(2, static_cast<char>(byte))), Found(0, 0));
}

// Every string and every string with one more byte, against a map: a slot that answers to the wrong node shows here.
TEST(ByteTrie, AgreesWithAMap) {
  const Strings strings = sorted(made_up_tokens(20'000));
  const std::map<std::string, int32_t> map(strings.begin(), strings.end());
  const ByteTrie trie(strings);
  const auto naive = [&](const std::string& text) {
    for (size_t n = text.size(); n > 0; --n) {
      if (const auto at = map.find(text.substr(0, n)); at != map.end()) return Found(at->second, n);
    }
    return Found(0, 0);
  };
  for (size_t i = 0; i < strings.size(); ++i) {
    const auto& [text, value] = strings[i];
    ASSERT_EQ(longest(trie, text), Found(value, text.size()));
    for (int byte = static_cast<int>(i % 16); byte < 256; byte += 16) {
      const std::string longer = text + static_cast<char>(byte);
      ASSERT_EQ(longest(trie, longer), naive(longer));
      const std::string shorter = text.substr(0, text.size() - 1) + static_cast<char>(byte);
      ASSERT_EQ(longest(trie, shorter), naive(shorter));
    }
  }
}

TEST(ByteTrie, AVeryLongStringIsNoDeepRecursion) {
  const std::string text(1'000'000, 'x');
  const ByteTrie trie(Strings{{text, 1}});
  EXPECT_EQ(longest(trie, text), Found(1, text.size()));
  EXPECT_EQ(longest(trie, text.substr(1)), Found(0, 0));
}

TEST(ByteTrie, StaysCompact) {
  const auto tokens = made_up_tokens(65'000);
  size_t nodes = 0;
  const Strings strings = sorted(tokens);
  for (size_t i = 0; i < strings.size(); ++i) {
    const std::string &text = strings[i].first, before = i ? strings[i - 1].first : "";
    nodes += text.size() - static_cast<size_t>(std::ranges::mismatch(text, before).in1 - text.begin());
  }
  // 8 bytes a node; at most a third of the slots stay free.
  EXPECT_LT(ByteTrie(strings).bytes(), nodes * 8 * 3 / 2);
}

TEST(ByteTrie, WrongInputIsOurOwnError) {
  EXPECT_THROW(ByteTrie(Strings{{"b", 1}, {"a", 2}}), Error);
  EXPECT_THROW(ByteTrie(Strings{{"a", 1}, {"a", 2}}), Error);
  EXPECT_THROW(ByteTrie(Strings{{"", 1}}), Error);
  EXPECT_THROW(ByteTrie(Strings{{"a", 0}}), Error);
  EXPECT_THROW(ByteTrie(Strings{{"a", ByteTrie::kMaxValue + 1}}), Error);
}

}  // namespace
}  // namespace gf
