// SPDX-License-Identifier: Apache-2.0
// Files of one JSON object a line, read in memory for one line, of which only the texts asked for are kept.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/files.h"

namespace gf {

// The texts under `keys`, which differ, in a line that is one JSON object. Refuses, with what is wrong alone: no JSON,
// no object, no such key, no text under it.
std::vector<std::string> json_texts(std::string_view line, std::span<const std::string> keys);

bool is_blank(std::string_view line);  // a line with nothing on it, over which all readers of such files pass

// Calls texts(list) for each line but the blank ones, and advance(bytes) as the file is read. A bad line is refused
// with file and number and the hint `wanted`, what each line is to be, and so is one of more than `longest` bytes.
void read_jsonl(File&, std::span<const std::string> keys, const std::string& wanted,
                const std::function<void(std::span<const std::string>)>& texts,
                const std::function<void(int64_t)>& advance, size_t longest = size_t{1} << 30);

}  // namespace gf
