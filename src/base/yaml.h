// SPDX-License-Identifier: Apache-2.0
// The text of config files. YAML, and JSON as the part of YAML that it is, read to a flat list of settings and written
// from a list of fields. It is bounded in size and depth, each key is given once, and nothing in it but values is
// looked at: tags and aliases are refused. io/yaml_file.h reads the files.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/fields.h"

namespace gf {

inline constexpr size_t kLongestYaml = size_t{1} << 20;  // bytes; many times what the longest list of data takes

// `name` stands for the text in messages: its file.
std::vector<Setting> parse_yaml(const std::string& text, const std::string& name);
// A list alone, as an option's value has it; `what` stands for it in messages.
Setting parse_yaml_list(const std::string& text, const std::string& what);

std::string in_quotes(const std::string& text);  // as YAML and JSON read it back, if it is plain text

// One line a field, nested by section; parse_yaml() and apply_settings() give back the same config. A note goes behind
// the field of its path, as a comment.
std::string write_yaml(const FieldList&, const std::map<std::string, std::string>& notes = {});

}  // namespace gf
