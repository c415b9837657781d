// SPDX-License-Identifier: Apache-2.0
#include "support/temp_folder.h"

#include <cstdlib>

#include "base/error.h"

namespace gf {

TempFolder::TempFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "gf-test-XXXXXX").string();
  GF_CHECK(mkdtemp(name.data()), "no temporary folder ", name);
  path_ = name;
}

TempFolder::~TempFolder() {
  std::filesystem::remove_all(path_);
}

}  // namespace gf
