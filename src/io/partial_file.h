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

// Where a file of this name is put: there, or where a symbolic link of this name leads. What it replaces must be a
// regular file. A folder, a device, a pipe and a link to none of these files are refused: they are not ours to replace.
std::filesystem::path output_place(const std::filesystem::path& name);

// A file being written as PATH.partial, by one process at a time, PATH being its output_place(). It gets its name with
// publish(); without that it goes with the object. A process that is killed leaves PATH.partial, and the next one that
// writes this file takes it over.
class PartialFile {
 public:
  // `status` is that of the error where it cannot be created.
  explicit PartialFile(const std::filesystem::path& name, Exit status = Exit::bad_input);
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
