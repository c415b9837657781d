// SPDX-License-Identifier: Apache-2.0
// Files of one JSON object a line, read in memory for one line, of which only one text is kept.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/files.h"

namespace gf {

// The text under `key` in a line that is one JSON object. Throws a std::runtime_error that says what is wrong: no JSON,
// no object, no such key, no text under it.
std::string json_text(std::string_view line, const std::string& key);

// Calls text(string) for each line but the blank ones, and advance(bytes) as the file is read. A bad line is refused
// with file and number, and so is one of more than `longest` bytes.
void read_jsonl(File&, const std::string& key, const std::function<void(std::string_view)>& text,
                const std::function<void(int64_t)>& advance, size_t longest = size_t{1} << 30);

}  // namespace gf
