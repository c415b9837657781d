// SPDX-License-Identifier: Apache-2.0
// Reads what Python's repr() writes for a str or bytes: '...', "...", b'...', b"...". Nothing else of Python.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>

namespace gf {

// What is wrong with a literal; the caller knows the file and line.
class LiteralError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The bytes that the literal stands for; those of a str in UTF-8.
std::string python_literal(std::string_view literal);

void append_utf8(char32_t code_point, std::string& out);

}  // namespace gf
