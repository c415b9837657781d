// SPDX-License-Identifier: Apache-2.0
#include "support/files.h"

#include <fstream>
#include <iterator>

#include "base/error.h"

namespace gf {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  GF_CHECK(file.is_open(), "no file ", path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  GF_CHECK(file.flush(), "cannot write ", path.string());
}

}  // namespace gf
