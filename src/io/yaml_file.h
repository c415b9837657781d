// SPDX-License-Identifier: Apache-2.0
// Files of settings that the user names. A pipe too: -c <(program); base/yaml.h knows their text.
#pragma once
#include <filesystem>
#include <vector>

#include "base/yaml.h"

namespace gf {

std::vector<Setting> read_yaml(const std::filesystem::path&);

}  // namespace gf
