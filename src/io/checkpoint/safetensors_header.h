// SPDX-License-Identifier: Apache-2.0
// The JSON header of a .safetensors file, checked.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint/safetensors.h"

namespace gf {

inline constexpr int64_t kLongestSafetensorsHeader = 100'000'000;  // as the reference implementation has it

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // sorted by place; they fill the data without gap or overlap
  std::map<std::string, std::string> metadata;
};

// `data_bytes` follow the header. What is wrong is refused, in the name of `file`.
SafetensorsHeader parse_safetensors_header(const std::string& file, std::string_view json, int64_t data_bytes);

}  // namespace gf
