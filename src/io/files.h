// SPDX-License-Identifier: Apache-2.0
// Files whose errors are seen. Every call is checked, every message names the path and what the system said, and
// what is reported as written is on the disk: file and folder are synced.
// A file that cannot be opened for reading is the user's wrong input; all other errors are failures.
#pragma once
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace gf {

// An open file. What is made or opened for writing must be a regular file: a device, a pipe, a folder or a symbolic
// link in its place is refused, since what the link leads to is somebody else's. Closed with the object; close() tells
// whether that went well, which on network file systems is where a write may still fail. Interrupted and partial
// transfers are gone on with.
class File {
 public:
  enum class Links : uint8_t { follow, refuse };
  static File open(const std::filesystem::path&, const std::string& hint = {}, Links = Links::follow);  // a regular one
  // Anything but a folder, to be read from its beginning with read(): a pipe too.
  static File open_stream(const std::filesystem::path&, const std::string& hint = {});
  // For writing and reading back; what it held is gone. `status` is that of the error where it cannot be created.
  static File create(const std::filesystem::path&, Exit status = Exit::failed);
  // Likewise, as the only process that does so until the object goes; where another one does, it is refused.
  static File create_alone(const std::filesystem::path&, Exit status);
  // For write() at its end and for reading; what it held stays, and where nothing was it is made.
  static File append_to(const std::filesystem::path&, Exit status = Exit::failed);
  static File in_memory();  // empty, for both; its path() opens it again; holes in it take no memory

  File(File&&) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const;  // now
  bool regular() const;  // has a size, and can be read at any offset

  // At the current position. read(): fewer bytes than asked for only at the end.
  size_t read(std::span<std::byte>);
  void write(std::span<const std::byte>);

  size_t read_some_at(std::span<std::byte>, int64_t offset) const;  // fewer bytes only at the end
  void read_at(std::span<std::byte>, int64_t offset) const;         // all of it; a file that ends earlier is refused
  void write_at(std::span<const std::byte>, int64_t offset);

  void reserve(int64_t bytes);  // makes the file this long, with room for it on the disk where that can be had
  void shorten(int64_t bytes);  // to so many
  // The system's lock on this file, asked for without waiting, until the object goes or the process ends.
  enum class Lock : uint8_t { own, another_has_it, none_here };  // none_here: a file system without locks
  Lock lock();
  // Waits until the disk has these bytes, where the file system can be asked for some; else returns at once. The way to
  // them it may not have yet: sync() is still needed, and then has little left to wait for.
  void write_back(int64_t begin, int64_t end);
  void sync();
  void close();

 private:
  File(std::filesystem::path path, int descriptor);
  static File create_new(const std::filesystem::path&, int flags, Exit status);
  struct stat status() const;
  std::filesystem::path path_;
  int descriptor_;
};

// The whole content of a regular file that is not larger than `limit` bytes.
std::string read_small_file(const std::filesystem::path&, int64_t limit, const std::string& hint = {});

void refuse_link(const std::filesystem::path&);  // where there is a symbolic link of this name

// Whether two names are of one place, whether something is there or not.
bool same_path(const std::filesystem::path&, const std::filesystem::path&);
void sync_folder(const std::filesystem::path&);
void create_folder(const std::filesystem::path&);  // where nothing is; fails where anything is
void create_folder_durably(const std::filesystem::path&, Exit status = Exit::failed);  // and those above it
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);
void remove_name(const std::filesystem::path&);     // of a file, a link or an empty folder; nothing there is fine
void remove_durably(const std::filesystem::path&);  // likewise
void check_file_size_limit(const std::filesystem::path&, int64_t bytes);  // what `ulimit -f` lets this process write
// Lets this process have so many more files open, as far as `ulimit -Hn` allows it; refuses what that does not.
void allow_open_files(int64_t more);
// For an ordinary user on the disk of this path; nothing where that cannot be asked for.
std::optional<int64_t> free_bytes(const std::filesystem::path&);

}  // namespace gf
