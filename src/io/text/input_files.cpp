// SPDX-License-Identifier: Apache-2.0
#include "io/text/input_files.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

bool is_any_of(const fs::path& path, std::span<const std::string> others) {
  return std::ranges::any_of(others, [&](const std::string& other) {
    std::error_code error;
    return path.filename() == fs::path(other).filename() && fs::equivalent(path, other, error);
  });
}

std::vector<InputFile> files_below(const std::string& folder, std::span<const std::string> except) {
  std::vector<InputFile> files;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const bool hidden = it->path().filename().string().starts_with('.');
    if (hidden || it->is_symlink()) {
      if (hidden && it->symlink_status().type() == fs::file_type::directory) it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file() || is_any_of(it->path(), except)) continue;
    files.push_back({it->path().string(), static_cast<int64_t>(it->file_size())});
  }
  if (error) refuse("the folder " + folder + " cannot be read: " + error.message());
  std::ranges::sort(files, {}, &InputFile::path);
  return files;
}

}  // namespace

std::vector<InputFile> find_input_files(std::span<const std::string> paths, std::span<const std::string> except) {
  std::vector<InputFile> files;
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status))
      refuse(path + " cannot be read: " + (error ? error.message() : "No such file or directory"));
    if (fs::is_directory(status)) {
      std::ranges::move(files_below(path, except), std::back_inserter(files));
    } else {
      const auto bytes = fs::is_regular_file(status) ? static_cast<int64_t>(fs::file_size(path)) : 0;
      files.push_back({path, bytes, true});
    }
  }
  return files;
}

}  // namespace gf
