// SPDX-License-Identifier: Apache-2.0
#include "train/text_stream.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace gf {
namespace {

// What a stream passes on, piece by piece, with '|' before each piece.
struct Shown {
  std::string text;
  TextStream::Sink sink() {
    return [this](std::string_view piece) { text.append("|").append(piece); };
  }
};

std::string plain(std::string shown) {
  std::erase(shown, '|');
  return shown;
}

TEST(TextStream, PassesTextOnAtOnce) {
  Shown shown;
  TextStream stream({}, shown.sink());
  for (const char* piece : {"a", "bc", ""}) EXPECT_TRUE(stream.add(piece));
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(shown.text, "|a|bc");
}

TEST(TextStream, ACharacterComesWhole) {
  for (const std::string character : {"\u00E9", "\u20AC", "\uD55C", "\U0001F600"}) {
    Shown shown;
    TextStream stream({}, shown.sink());
    stream.add("x");
    for (const char byte : character) stream.add({&byte, 1});
    EXPECT_EQ(shown.text, "|x|" + character);
  }
}

TEST(TextStream, BytesThatCannotBecomeACharacterAreNotHeldBack) {
  // Never a lead; a lead that no longer fits; overlong, surrogate, above U+10FFFF: the second byte settles it.
  for (const std::string bytes : {"\x80", "\xC0", "\xC1", "\xF5", "\xFF", "\xE0\x80", "\xED\xA0", "\xF0\x80",
                                  "\xF4\x90", "\xE2\x82x", "\xF0\x9F\x98x", "\xC3\xC3x"}) {
    Shown shown;
    TextStream stream({}, shown.sink());
    for (const char byte : bytes) stream.add({&byte, 1});
    EXPECT_EQ(plain(shown.text), bytes);
  }
}

TEST(TextStream, AnUnfinishedCharacterIsLeftOutAtTheEnd) {
  Shown shown;
  TextStream stream({}, shown.sink());
  stream.add("ab\xF0\x9F\x98");
  EXPECT_EQ(shown.text, "|ab");
  EXPECT_EQ(stream.finish(), "\xF0\x9F\x98");
  EXPECT_EQ(shown.text, "|ab");
}

TEST(TextStream, UnfinishedCharacters) {
  EXPECT_EQ(unfinished_character(""), 0u);
  EXPECT_EQ(unfinished_character("a"), 0u);
  EXPECT_EQ(unfinished_character("a\xC3"), 1u);
  EXPECT_EQ(unfinished_character("\xC3\xA9"), 0u);
  EXPECT_EQ(unfinished_character("\xE2\x82"), 2u);
  EXPECT_EQ(unfinished_character("\xE0\xA0"), 2u);
  EXPECT_EQ(unfinished_character("\xED\x9F"), 2u);
  EXPECT_EQ(unfinished_character("\xF0\x90\x80"), 3u);
  EXPECT_EQ(unfinished_character("\xF4\x8F"), 2u);
  EXPECT_EQ(unfinished_character("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(unfinished_character("\x80\x80\x80\x80"), 0u);
}

// Whatever the bytes: all is shown at once but what may yet become a character, and nothing is lost but such an end.
TEST(TextStream, RandomBytesComeThrough) {
  const Random random(3, "bytes");
  std::string bytes, shown;
  TextStream stream({}, [&](std::string_view piece) { shown += piece; });
  constexpr unsigned char kBytes[] = {'a', 0x80, 0x9F, 0xA0, 0xBF, 0xC3, 0xE0, 0xE2, 0xED, 0xF0, 0xF4, 0xFF};
  for (uint64_t i = 0; i < 5000; ++i) {
    bytes += static_cast<char>(kBytes[random.bits(i) % std::size(kBytes)]);
    stream.add({&bytes.back(), 1});
    ASSERT_EQ(shown.size(), bytes.size() - unfinished_character(bytes));
  }
  const size_t left = stream.finish().size();
  EXPECT_EQ(shown, bytes.substr(0, bytes.size() - left));
}

TEST(TextStream, EndsBeforeAStopText) {
  Shown shown;
  TextStream stream({"END", "\n\n"}, shown.sink());
  EXPECT_TRUE(stream.add("a\nE"));
  EXPECT_TRUE(stream.add("N"));
  EXPECT_TRUE(stream.add("EN"));
  EXPECT_EQ(shown.text, "|a\n|EN");
  EXPECT_FALSE(stream.add("D and more"));
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(shown.text, "|a\n|EN");
}

TEST(TextStream, TheFirstOfSeveralStopTextsCounts) {
  Shown shown;
  TextStream stream({"later", "so"}, shown.sink());
  EXPECT_FALSE(stream.add("one so two later"));
  EXPECT_EQ(shown.text, "|one ");
}

TEST(TextStream, WhatOnlyBeganLikeAStopTextIsShown) {
  Shown shown;
  TextStream stream({"aab"}, shown.sink());
  for (const char* piece : {"a", "a", "a", "c", "a"}) EXPECT_TRUE(stream.add(piece));
  EXPECT_EQ(plain(shown.text), "aaac");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(plain(shown.text), "aaaca");
}

TEST(TextStream, WhatIsHeldBackCanBeTakenToAnother) {
  Shown shown;
  TextStream first({"aab"}, shown.sink());
  EXPECT_TRUE(first.add("xa"));
  EXPECT_TRUE(first.add("a"));
  const std::string held = first.take_held();
  EXPECT_EQ(held, "aa");
  EXPECT_EQ(first.finish(), "");
  TextStream second({"aab"}, shown.sink(), held);
  EXPECT_FALSE(second.add("b"));
  EXPECT_EQ(plain(shown.text), "x");
}

TEST(TextStream, AStopTextOfManyBytesInPieces) {
  Shown shown;
  TextStream stream({"\u20AC"}, shown.sink());
  EXPECT_TRUE(stream.add("5 \xE2"));
  EXPECT_TRUE(stream.add("\x82"));
  EXPECT_FALSE(stream.add("\xAC"));
  EXPECT_EQ(shown.text, "|5 ");
}

}  // namespace
}  // namespace gf
