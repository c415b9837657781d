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

// A file being written as PATH.partial, by one process at a time. It gets its name with publish(); without that it goes
// with the object.
class PartialFile {
 public:
  // `status` is that of the error where it cannot be created.
  explicit PartialFile(const std::filesystem::path& path, Exit status = Exit::bad_input);
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

// Either the old content or all of the new, whatever happens in between.
void write_file_atomically(const std::filesystem::path&, std::string_view content, Exit status = Exit::failed);

}  // namespace gf
