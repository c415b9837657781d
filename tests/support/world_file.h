// SPDX-License-Identifier: Apache-2.0
// Vocabulary files in the RWKV World format, made up.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gf {

// As Python's repr() writes it: '...' where the bytes are UTF-8, else b'...'.
std::string python_repr(std::string_view bytes);

// One line of the file.
std::string world_line(int64_t id, std::string_view bytes);

// All single bytes as numbers 1 to 256, then `more`.
std::string world_file(const std::vector<std::string>& more);

// Distinct strings of two to twelve bytes, many of them beginnings of others, as in a real vocabulary.
std::vector<std::string> made_up_tokens(size_t count);

// Text with many matches: pieces of the tokens, and now and then any byte.
std::string made_up_text(const std::vector<std::string>& tokens, size_t bytes, uint64_t seed);

}  // namespace gf
