// SPDX-License-Identifier: Apache-2.0
// Config files on the disk, whose text base/yaml.h knows.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/yaml.h"

namespace gf {

// The text; refuses what is no regular file, or too large for a config file.
std::string read_yaml_text(const std::filesystem::path&);
std::vector<Setting> read_yaml(const std::filesystem::path&);

}  // namespace gf
