// SPDX-License-Identifier: Apache-2.0
// Output that only gets its name when it is whole, and small pieces gathered into large writes.
#pragma once
#include <vector>

#include "io/files.h"

namespace gf {

// Gathers small pieces into large writes to the file's current position.
class Appender {
 public:
  explicit Appender(File& file) : file_(file) { buffer_.reserve(kCapacity); }
  void append(std::span<const std::byte>);
  template <class T>
  void append(const T& value) {
    append(std::as_bytes(std::span(&value, 1)));
  }
  void flush();

 private:
  static constexpr size_t kCapacity = size_t{1} << 20;
  File& file_;
  std::vector<std::byte> buffer_;
};

// A file being written as PATH.partial. It gets its name with publish(); without that it goes with the object.
class PartialFile {
 public:
  explicit PartialFile(const std::filesystem::path& path);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  File& file() { return file_; }
  const std::filesystem::path& path() const { return path_; }
  void publish();  // call file().sync() first

 private:
  std::filesystem::path path_;
  File file_;
  bool published_ = false;
};

}  // namespace gf
