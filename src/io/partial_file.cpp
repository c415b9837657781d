// SPDX-License-Identifier: Apache-2.0
#include "io/partial_file.h"

#include <algorithm>
#include <cstdio>

namespace gf {

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

PartialFile::PartialFile(const std::filesystem::path& path, Exit status)
    : path_(path), file_(File::create_alone(path.string() + ".partial", status)) {
  if (!std::filesystem::is_directory(path)) return;
  std::remove(file_.path().c_str());
  refuse(path.string() + " is a folder, not a file", "the name of a file");
}

PartialFile::~PartialFile() {
  if (!published_) std::remove(file_.path().c_str());
}

void PartialFile::publish() {
  rename_durably(file_.path(), path_);
  published_ = true;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content, Exit status) {
  PartialFile partial(path, status);
  partial.file().write_at(std::as_bytes(std::span(content)), 0);
  partial.file().sync();
  partial.publish();
}

}  // namespace gf
