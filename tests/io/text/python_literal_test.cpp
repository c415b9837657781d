// SPDX-License-Identifier: Apache-2.0
#include "io/text/python_literal.h"

#include <gtest/gtest.h>

#include "support/world_file.h"

namespace gf {
namespace {

TEST(PythonLiteral, WhatReprWrites) {
  EXPECT_EQ(python_literal("'abc'"), "abc");
  EXPECT_EQ(python_literal("\"it's\""), "it's");
  EXPECT_EQ(python_literal(R"('\'"')"), "'\"");
  EXPECT_EQ(python_literal(R"('a\\b\n\t\r')"), "a\\b\n\t\r");
  EXPECT_EQ(python_literal(R"('\a\b\f\v')"), "\a\b\f\v");
  EXPECT_EQ(python_literal("' '"), " ");
  EXPECT_EQ(python_literal("''"), "");
}

TEST(PythonLiteral, CodePointsBecomeUtf8AndBytesStayBytes) {
  EXPECT_EQ(python_literal(R"('\x7f\x80\xff')"), "\x7f\xC2\x80\xC3\xBF");
  EXPECT_EQ(python_literal(R"(b'\x7f\x80\xFF')"), "\x7f\x80\xFF");
  EXPECT_EQ(python_literal(R"(b"\x00'")"), std::string("\0'", 2));
  EXPECT_EQ(python_literal(R"('\u07ff\u0800\uFFFF')"), "\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF");
  EXPECT_EQ(python_literal(R"('\U00010000\U0010ffff')"), "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF");
  EXPECT_EQ(python_literal("'\xE4\xBD\xA0'"), "\xE4\xBD\xA0");
}

TEST(PythonLiteral, EveryByteComesBack) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(python_literal(python_repr(all)), all);
  EXPECT_EQ(python_literal(python_repr(all.substr(0, 128))), all.substr(0, 128));
}

TEST(PythonLiteral, RefusesWhatIsNone) {
  const auto says = [](const char* literal) -> std::string {
    try {
      python_literal(literal);
    } catch (const LiteralError& e) {
      return e.what();
    }
    return "taken";
  };
  for (const char* literal : {"", "'", "a", "b", "123", "u'a'", "B'a'", "`a`"}) {
    EXPECT_NE(says(literal).find("no "), std::string::npos) << literal << ": " << says(literal);
  }
  EXPECT_EQ(says("'abc"), "the string has no closing quotation mark");
  EXPECT_EQ(says("'abc\""), "the string has no closing quotation mark");
  EXPECT_EQ(says("'a' 'b'"), "something follows the closing quotation mark");
  EXPECT_EQ(says("'a\\"), "the string ends within an escape");
  EXPECT_EQ(says(R"('\x4')"), "an escape has too few hexadecimal digits");
  EXPECT_EQ(says(R"('\x)"), "an escape has too few hexadecimal digits");
  EXPECT_EQ(says(R"('\u00g0')"), "an escape has too few hexadecimal digits");
  EXPECT_EQ(says(R"('\ud800')"), "an escape names no Unicode character");
  EXPECT_EQ(says(R"('\U00110000')"), "an escape names no Unicode character");
  EXPECT_EQ(says(R"(b'\u0041')"), "the escape \\u is not known here");
  EXPECT_EQ(says(R"('\N{DIGIT ONE}')"), "the escape \\N is not known here");
  EXPECT_EQ(says("b'\xC3\xA4'"), "a byte string holds a character that is not ASCII");
}

}  // namespace
}  // namespace gf
