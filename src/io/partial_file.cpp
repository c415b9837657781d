// SPDX-License-Identifier: Apache-2.0
#include "io/partial_file.h"

#include <algorithm>
#include <cstdio>

namespace gf {

namespace fs = std::filesystem;

void Appender::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), kCapacity - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    bytes = bytes.subspan(n);
    if (buffer_.size() == kCapacity) flush();
  }
}

void Appender::flush() {
  file_.write(buffer_);
  buffer_.clear();
}

fs::path output_place(const fs::path& name) {
  std::error_code error;  // what cannot even be looked at cannot be written either, which will be said then
  const bool link = fs::is_symlink(name, error);
  const fs::file_status there = fs::status(name, error);
  if (fs::is_directory(there)) refuse(name.string() + " is a folder, not a file", "the name of a file");
  if (fs::exists(there) && !fs::is_regular_file(there))
    refuse(name.string() + " is not a regular file and will not be replaced", "another name");
  if (!link) return name;
  if (!fs::exists(there)) refuse(name.string() + " is a symbolic link that leads to no file", "another name");
  return fs::canonical(name);
}

PartialFile::PartialFile(const fs::path& name, Exit status)
    : path_(output_place(name)), file_(File::create_alone(path_.string() + ".partial", status)) {}

PartialFile::~PartialFile() {
  if (!published_) std::remove(file_.path().c_str());
}

void PartialFile::publish() {
  rename_durably(file_.path(), path_);
  published_ = true;
}

void write_file_atomically(const fs::path& path, std::string_view content, Exit status) {
  PartialFile partial(path, status);
  partial.file().write_at(std::as_bytes(std::span(content)), 0);
  partial.file().sync();
  partial.publish();
}

}  // namespace gf
