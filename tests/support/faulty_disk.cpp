// SPDX-License-Identifier: Apache-2.0
#include "support/faulty_disk.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

namespace {

// Plain data: calls may come before and after the lifetime of any object.
char watched[PATH_MAX];
size_t watched_length = 0;
gf::Fault fault;
int nth_call = 0;
std::atomic<int> num_calls{0};

bool is_watched(const char* path) {
  return watched_length > 0 && std::strncmp(path, watched, watched_length) == 0;
}

bool is_watched(int descriptor) {
  if (watched_length == 0) return false;
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return false;
  path[length] = '\0';
  return is_watched(path);
}

// Whether this call fails; sets errno.
bool fails() {
  if (fault == gf::Fault::close_error || fault == gf::Fault::read_error) return false;
  const int call = num_calls++;
  if (call < nth_call) return false;
  if (fault == gf::Fault::death && call == nth_call) _exit(9);
  errno = fault == gf::Fault::no_space ? ENOSPC : EIO;
  return fault == gf::Fault::no_space || fault == gf::Fault::io_error;
}

// A disk without space or with errors takes no more; one that only writes little takes half of this call.
bool is_short() {
  return fault == gf::Fault::short_write && num_calls == nth_call + 1;
}

template <class F>
F* next(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

template <class... Args>
ssize_t put(const char* name, int fd, const void* data, size_t size, Args... offset) {
  static auto* const real = next<ssize_t(int, const void*, size_t, Args...)>(name);
  if (is_watched(fd)) {
    if (fails()) return -1;
    if (is_short()) size = (size + 1) / 2;
  }
  return real(fd, data, size, offset...);
}

template <class... Args>
ssize_t get(const char* name, int fd, void* data, size_t size, Args... offset) {
  static auto* const real = next<ssize_t(int, void*, size_t, Args...)>(name);
  const bool counts = fault == gf::Fault::short_read || fault == gf::Fault::read_error;
  if (!counts || !is_watched(fd) || num_calls++ < nth_call) return real(fd, data, size, offset...);
  if (fault == gf::Fault::short_read) return real(fd, data, (size + 1) / 2, offset...);
  errno = EIO;
  return -1;
}

}  // namespace

extern "C" {

ssize_t read(int fd, void* data, size_t size) {
  return get("read", fd, data, size);
}
ssize_t pread(int fd, void* data, size_t size, off_t at) {
  return get("pread", fd, data, size, at);
}
ssize_t pread64(int fd, void* data, size_t size, off64_t at) {
  return get("pread64", fd, data, size, at);
}

ssize_t write(int fd, const void* data, size_t size) {
  return put("write", fd, data, size);
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t at) {
  return put("pwrite", fd, data, size, at);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t at) {
  return put("pwrite64", fd, data, size, at);
}

// Counted but not done: no test pulls the plug, and a thousand real syncs would take most of its time.
int fsync(int fd) {
  return is_watched(fd) && fails() ? -1 : 0;
}

// The descriptor is gone, whatever the answer.
int close(int fd) {
  static auto* const real = next<int(int)>("close");
  const bool counts = fault == gf::Fault::close_error && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY && is_watched(fd);
  const bool bad = counts && num_calls++ == nth_call;
  if (!bad) return real(fd);
  real(fd);
  errno = EIO;
  return -1;
}

int ftruncate(int fd, off_t size) noexcept {
  static auto* const real = next<int(int, off_t)>("ftruncate");
  return is_watched(fd) && fails() ? -1 : real(fd, size);
}

int ftruncate64(int fd, off64_t size) noexcept {
  static auto* const real = next<int(int, off64_t)>("ftruncate64");
  return is_watched(fd) && fails() ? -1 : real(fd, size);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
  static auto* const real = next<int(int, int, off_t, off_t)>("fallocate");
  return is_watched(fd) && fails() ? -1 : real(fd, mode, at, size);
}

int rename(const char* from, const char* to) noexcept {
  static auto* const real = next<int(const char*, const char*)>("rename");
  return is_watched(to) && fails() ? -1 : real(from, to);
}

int mkdir(const char* path, mode_t mode) noexcept {
  static auto* const real = next<int(const char*, mode_t)>("mkdir");
  return is_watched(path) && fails() ? -1 : real(path, mode);
}

int unlink(const char* path) noexcept {
  static auto* const real = next<int(const char*)>("unlink");
  return is_watched(path) && fails() ? -1 : real(path);
}

int rmdir(const char* path) noexcept {
  static auto* const real = next<int(const char*)>("rmdir");
  return is_watched(path) && fails() ? -1 : real(path);
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  static auto* const real = next<int(int, const char*, int)>("unlinkat");
  const bool watch = path[0] != '/' && folder != AT_FDCWD ? is_watched(folder) : is_watched(path);
  return watch && fails() ? -1 : real(folder, path, flags);
}

int open(const char* path, int flags, ...) {
  static auto* const real = next<int(const char*, int, ...)>("open");
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  return (flags & O_CREAT) && is_watched(path) && fails() ? -1 : real(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  static auto* const real = next<int(const char*, int, ...)>("open64");
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  return (flags & O_CREAT) && is_watched(path) && fails() ? -1 : real(path, flags, mode);
}

}  // extern "C"

namespace gf {

FaultyDisk::FaultyDisk(std::string folder, Fault kind, int nth) {
  fault = kind;
  nth_call = nth;
  num_calls = 0;
  watched_length = std::min(folder.size(), sizeof watched - 1);
  std::memcpy(watched, folder.c_str(), watched_length);
}

FaultyDisk::~FaultyDisk() {
  watched_length = 0;
}

int FaultyDisk::calls() const {
  return num_calls;
}
bool FaultyDisk::reached() const {
  return num_calls > nth_call;
}

}  // namespace gf
