// SPDX-License-Identifier: Apache-2.0
// Files of settings that the user names. A pipe too: -c <(program); base/yaml.h knows their text.
#pragma once
#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/yaml.h"

namespace gf {

// `regular`: nothing that has to be waited for. Once there is a StopSignal, no signal would end the wait for a pipe.
enum class YamlFrom : uint8_t { anywhere, regular };
std::vector<Setting> read_yaml(const std::filesystem::path&, YamlFrom = YamlFrom::anywhere);

}  // namespace gf
