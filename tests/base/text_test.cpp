// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <gtest/gtest.h>

#include "base/error.h"

#include "base/fields.h"

namespace gf {
namespace {

TEST(Text, WhatIsForeignIsShortInAMessage) {
  EXPECT_EQ(shortened(""), "");
  EXPECT_EQ(shortened(std::string(60, 'a')), std::string(60, 'a'));
  EXPECT_EQ(shortened(std::string(61, 'a')), cat(std::string(60, 'a'), "..."));
  EXPECT_EQ(shortened("abcdef", 4), "abcd...");
  EXPECT_EQ(cited("a"), "\"a\"");
  EXPECT_EQ(cited(std::string(100000, 'a')), '"' + std::string(60, 'a') + "...\"");
  EXPECT_EQ(parser_message(std::string(100000, 'a')), cat(std::string(240, 'a'), "..."));
}

TEST(Text, BlanksAreTakenFromItsEnds) {
  for (const auto& [text, rest] : {std::pair("", ""), {" \t ", ""}, {"a", "a"}, {" a b\t", "a b"}})
    EXPECT_EQ(without_blanks(text), rest);
}

TEST(Text, ATerminalObeysNothingInIt) {
  EXPECT_EQ(shortened(std::string_view("a\x1b[2J\n\r\t\x7f\0b", 11)), "a?[2J?????b");
  // U+0080 to U+009F in UTF-8, of which U+009B is ESC [ in one; what comes after them is text.
  EXPECT_EQ(shortened("\xc2\x9b"
                      "2J\xc2\x80\xc2\xa0\xc3\x9b"),
            "?2J?\xc2\xa0\xc3\x9b");
}

// Of one, two, three and four bytes.
TEST(Text, NoCharacterIsCutInTwo) {
  for (const char* character : {"a", "\u00e9", "\u20ac", "\U0001f426"}) {
    std::string text;
    while (text.size() < 200) text += character;
    for (size_t most = 10; most < 20; ++most) {
      const std::string some = shortened(text, most);
      EXPECT_TRUE(is_plain_text(some)) << character << most;
      EXPECT_GT(some.size(), most - 4 + 3) << character << most;
    }
  }
  const std::string broken(100, '\x80');
  EXPECT_LE(shortened(broken, 10).size(), 13u);
}

}  // namespace
}  // namespace gf
