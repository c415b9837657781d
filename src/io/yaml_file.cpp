// SPDX-License-Identifier: Apache-2.0
#include "io/yaml_file.h"

#include "io/files.h"

namespace gf {

std::string read_yaml_text(const std::filesystem::path& path) {
  return read_small_file(path, kLongestYaml, "a path to a YAML or JSON file");
}

std::vector<Setting> read_yaml(const std::filesystem::path& path) {
  return parse_yaml(read_yaml_text(path), path.string());
}

}  // namespace gf
