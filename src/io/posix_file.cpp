// SPDX-License-Identifier: Apache-2.0
#include "io/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace gf {
namespace {

std::string reason() {
  return std::strerror(errno);
}

[[noreturn]] void fail_writing(const std::string& path) {
  const bool full = errno == ENOSPC || errno == EDQUOT;
  fail(path + " cannot be written: " + reason(), full ? "free some space, or another place" : "");
}

struct stat status_of(int fd, const std::string& path) {
  struct stat status {};
  if (fstat(fd, &status) != 0) fail(path + ": " + reason());
  return status;
}

// Linux transfers at most 2 GiB at a time.
constexpr size_t kMost = size_t{1} << 30;

}  // namespace

PosixFile PosixFile::open(const std::string& path, const std::string& hint) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) refuse(path + " cannot be read: " + reason(), hint);
  PosixFile file(path, fd);
  if (S_ISDIR(status_of(fd, path).st_mode)) refuse(path + " is a folder, not a file", hint);
  return file;
}

PosixFile PosixFile::create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) refuse(path + " cannot be created: " + reason(), "a folder that exists and may be written to");
  return {path, fd};
}

PosixFile::PosixFile(PosixFile&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

PosixFile& PosixFile::operator=(PosixFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

PosixFile::~PosixFile() {
  if (fd_ >= 0) ::close(fd_);
}

bool PosixFile::regular() const {
  return S_ISREG(status_of(fd_, path_).st_mode);
}

int64_t PosixFile::size() const {
  return status_of(fd_, path_).st_size;
}

size_t PosixFile::read(std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::read(fd_, out.data() + done, std::min(out.size() - done, kMost));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path_ + " cannot be read: " + reason());
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

void PosixFile::read_at(int64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const int64_t at = offset + static_cast<int64_t>(done);
    const ssize_t n = ::pread(fd_, out.data() + done, std::min(out.size() - done, kMost), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(cat(path_, " cannot be read at byte ", at, ": ", reason()));
    if (n == 0) {
      fail(cat(path_, " has become shorter while in use: ", size(), " bytes, and byte ", at, " was to be read"),
           "restore the file and run again; nothing else may write to it meanwhile");
    }
    done += static_cast<size_t>(n);
  }
}

void PosixFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), kMost));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_writing(path_);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void PosixFile::write_at(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), std::min(bytes.size(), kMost), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_writing(path_);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += n;
  }
}

void PosixFile::sync() {
  if (::fsync(fd_) != 0) fail_writing(path_);
}

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

PartialFile::PartialFile(std::string path) : path_(std::move(path)), file_(PosixFile::create(path_ + ".partial")) {}

PartialFile::~PartialFile() {
  if (!published_) std::remove(file_.path().c_str());
}

void PartialFile::publish() {
  if (std::rename(file_.path().c_str(), path_.c_str()) != 0) {
    fail(file_.path() + " cannot be renamed to " + path_ + ": " + reason());
  }
  published_ = true;
}

void sync_folder_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? std::string(".") : parent.string();
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("the folder " + folder + " cannot be opened: " + reason());
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some network file systems cannot sync a folder, and keep renames safe themselves.
  if (result != 0 && error != EINVAL) fail("the folder " + folder + " cannot be synced: " + std::strerror(error));
}

}  // namespace gf
