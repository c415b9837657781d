// SPDX-License-Identifier: Apache-2.0
#include "io/yaml_file.h"

#include "io/files.h"

namespace gf {

std::vector<Setting> read_yaml(const std::filesystem::path& path, YamlFrom from) {
  const char* const hint = "a path to a YAML or JSON file";
  File file = from == YamlFrom::regular ? File::open(path, hint) : File::open_stream(path, hint);
  std::string text(kLongestYaml + 1, '\0');  // one more than is taken
  text.resize(file.read(std::as_writable_bytes(std::span(text))));
  return parse_yaml(text, path.string());
}

}  // namespace gf
