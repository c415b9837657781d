// SPDX-License-Identifier: Apache-2.0
#include "io/text/python_literal.h"

namespace gf {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  std::string read() {
    bytes_ = take_if('b');
    if (rest_.size() < 2 || (rest_[0] != '\'' && rest_[0] != '"')) {
      throw LiteralError("no Python string: it begins with no quotation mark");
    }
    const char quote = take();
    while (true) {
      if (rest_.empty()) throw LiteralError("the string has no closing quotation mark");
      const char c = take();
      if (c == quote) break;
      if (c == '\\') {
        escape();
      } else if (bytes_ && static_cast<unsigned char>(c) >= 0x80) {
        throw LiteralError("a byte string holds a character that is not ASCII");
      } else {
        out_ += c;
      }
    }
    if (!rest_.empty()) throw LiteralError("something follows the closing quotation mark");
    return std::move(out_);
  }

 private:
  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  bool take_if(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void escape() {
    if (rest_.empty()) throw LiteralError("the string ends within an escape");
    const char c = take();
    switch (c) {
      case '\\':
      case '\'':
      case '"':
        out_ += c;
        return;
      case 'n':
        out_ += '\n';
        return;
      case 't':
        out_ += '\t';
        return;
      case 'r':
        out_ += '\r';
        return;
      case 'a':
        out_ += '\a';
        return;
      case 'b':
        out_ += '\b';
        return;
      case 'f':
        out_ += '\f';
        return;
      case 'v':
        out_ += '\v';
        return;
      case 'x':
        return code(hex(2));
      case 'u':
        if (!bytes_) return code(hex(4));
        break;
      case 'U':
        if (!bytes_) return code(hex(8));
        break;
    }
    throw LiteralError(std::string("the escape \\") + c + " is not known here");
  }

  void code(char32_t value) {
    if (bytes_) {
      out_ += static_cast<char>(value);
    } else {
      append_utf8(value, out_);
    }
  }

  char32_t hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const int digit = rest_.empty() ? -1 : hex_digit(take());
      if (digit < 0) throw LiteralError("an escape has too few hexadecimal digits");
      value = value * 16 + static_cast<char32_t>(digit);
    }
    return value;
  }

  std::string_view rest_;
  std::string out_;
  bool bytes_ = false;
};

}  // namespace

std::string python_literal(std::string_view literal) {
  return Reader(literal).read();
}

void append_utf8(char32_t c, std::string& out) {
  if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) throw LiteralError("an escape names no Unicode character");
  const auto continuation = [&](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    continuation(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    continuation(6), continuation(0);
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    continuation(12), continuation(6), continuation(0);
  }
}

}  // namespace gf
