// SPDX-License-Identifier: Apache-2.0
// Which files a list of paths stands for, in an order that does not depend on the file system.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gf {

struct InputFile {
  std::string path;
  int64_t bytes = 0;   // 0 for a pipe
  bool named = false;  // given by the user; else found in a folder
};

// Paths in the given order; a folder stands for the regular files below it, sorted by path as bytes. Left out in
// folders: hidden files and folders (.name), symbolic links, and `except`. A path that does not exist is refused.
std::vector<InputFile> find_input_files(std::span<const std::string> paths, std::span<const std::string> except);

}  // namespace gf
