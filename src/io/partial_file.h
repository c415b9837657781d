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

// Where a file of this name is put: there, or where a symbolic link of this name leads, if it may be one: a name that a
// user gave may, one within a run folder may not, for the folder may come from anywhere. What it replaces must be a
// regular file. A folder, a device, a pipe and a link to none of these files are refused: they are not ours to replace.
std::filesystem::path output_place(const std::filesystem::path& name, File::Links = File::Links::follow);

// A file being written as PATH.partial, by one process at a time, PATH being its output_place(). It gets its name with
// publish(); without that it goes with the object. A process that is killed leaves PATH.partial, and so does a
// publish() that fails; the next one that writes this file takes it over.
class PartialFile {
 public:
  // `status` is that of the error where it cannot be created.
  explicit PartialFile(const std::filesystem::path& name, Exit status = Exit::bad_input,
                       File::Links = File::Links::follow);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  File& file() { return file_; }
  const std::filesystem::path& path() const { return path_; }
  void publish();  // call file().sync() first

  // Removes what is there under the names `old`, then gives the files theirs, in this order. All are synced: where it
  // fails, those without their names stay, and the hint has the commands that do the rest.
  static void publish_all(std::span<PartialFile* const> files, std::span<const std::filesystem::path> old);

 private:
  std::filesystem::path path_;
  File file_;
  bool whole_ = false;  // and not to go with the object
};

// Either the old content or all of the new, whatever happens in between.
void write_file_atomically(const std::filesystem::path&, std::string_view content, Exit status = Exit::failed,
                           File::Links = File::Links::follow);

}  // namespace gf
