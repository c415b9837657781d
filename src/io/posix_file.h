// SPDX-License-Identifier: Apache-2.0
// An open file: closed with the object, interrupted and partial reads and writes gone on with, every error
// reported with the path and the system's reason. Knows nothing of formats.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gf {

class PosixFile {
 public:
  // Both refuse (status 2): what cannot be opened is a path the user gave.
  static PosixFile open(const std::string& path, const std::string& hint = {});  // to read; any file but a folder
  static PosixFile create(const std::string& path);                              // emptied if it exists

  PosixFile(PosixFile&&) noexcept;
  PosixFile& operator=(PosixFile&&) noexcept;
  ~PosixFile();

  const std::string& path() const { return path_; }
  bool regular() const;  // has a size and can be read at any offset
  int64_t size() const;  // now

  // From the current position; fewer bytes than asked for only at the end.
  size_t read(std::span<std::byte> out);
  // Exactly out.size() bytes from `offset`; fails (status 1) where the file has become shorter than that.
  void read_at(int64_t offset, std::span<std::byte> out) const;

  void write(std::span<const std::byte>);  // at the current position
  void write_at(int64_t offset, std::span<const std::byte>);
  void sync();  // on disk when it returns

 private:
  PosixFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_ = -1;
};

// Gathers small pieces into large writes to the file's current position.
class Appender {
 public:
  explicit Appender(PosixFile& file) : file_(file) { buffer_.reserve(kCapacity); }
  void append(std::span<const std::byte>);
  template <class T>
  void append(const T& value) {
    append(std::as_bytes(std::span(&value, 1)));
  }
  void flush();

 private:
  static constexpr size_t kCapacity = size_t{1} << 20;
  PosixFile& file_;
  std::vector<std::byte> buffer_;
};

// A file being written as PATH.partial. It gets its name with publish(); without that it goes with the object.
class PartialFile {
 public:
  explicit PartialFile(std::string path);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  PosixFile& file() { return file_; }
  const std::string& path() const { return path_; }
  void publish();  // call file().sync() first

 private:
  std::string path_;
  PosixFile file_;
  bool published_ = false;
};

// Makes renames and removals in the folder of `path` last.
void sync_folder_of(const std::string& path);

}  // namespace gf
