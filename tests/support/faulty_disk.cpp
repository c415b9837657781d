// SPDX-License-Identifier: Apache-2.0
#include "support/faulty_disk.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <utility>
#include <vector>

namespace {

// Plain data: calls may come before and after the lifetime of any object.
char watched[PATH_MAX];
size_t watched_length = 0;
gf::Fault fault;
int nth_call = 0;
std::atomic<int> num_calls{0};

// Of an armed disk alone.
std::mutex mutex;
std::set<std::string>* unsynced_paths = nullptr;
gf::FaultyDisk::NameChange* name_change = nullptr;
gf::FaultyDisk::Sync* sync_asked = nullptr;

bool is_watched(const char* path) {
  return watched_length > 0 && std::strncmp(path, watched, watched_length) == 0;
}

// Empty where nothing is watched.
std::string path_of(int descriptor) {
  if (watched_length == 0) return "";
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path);
  return {path, static_cast<size_t>(std::max<ssize_t>(length, 0))};
}

bool is_watched(int descriptor) {
  return is_watched(path_of(descriptor).c_str());
}

bool is_at_or_below(const std::string& path, const std::string& folder) {
  return path.starts_with(folder) &&
         (path.size() == folder.size() || folder.ends_with('/') || path[folder.size()] == '/');
}

void note_change(const std::string& path) {
  const std::lock_guard lock(mutex);
  if (unsynced_paths && is_watched(path.c_str())) unsynced_paths->insert(path);
}

void note_entry(const std::string& path) {
  note_change(path.substr(0, path.rfind('/')));
}

void note_sync(const std::string& path) {
  const std::lock_guard lock(mutex);
  if (unsynced_paths) unsynced_paths->erase(path);
}

// What goes, or stays under another name, is not synced by that.
void note_move(const std::string& from, const std::string& to) {
  {
    const std::lock_guard lock(mutex);
    if (!unsynced_paths) return;
    std::set<std::string> after;
    for (const std::string& path : *unsynced_paths) {
      if (!is_at_or_below(path, from))
        after.insert(path);
      else if (!to.empty())
        after.insert(to + path.substr(from.size()));
    }
    *unsynced_paths = std::move(after);
  }
  note_entry(from);
  if (!to.empty()) note_entry(to);
}

void tell(const std::string& from, const std::string& to) {
  if (name_change && *name_change) (*name_change)(from, to);
}

// As it says; sets errno.
bool refused(int64_t begin, int64_t bytes) {
  const int error = sync_asked && *sync_asked ? (*sync_asked)(begin, bytes) : 0;
  if (error != 0) errno = error;
  return error != 0;
}

// Whether this call fails; sets errno.
bool fails() {
  using gf::Fault;
  constexpr Fault kOfOtherCalls[] = {Fault::none, Fault::read_error, Fault::look_error, Fault::close_error};
  if (std::ranges::find(kOfOtherCalls, fault) != std::end(kOfOtherCalls)) return false;
  const int call = num_calls++;
  if (call < nth_call) return false;
  if (fault == Fault::death && call == nth_call) _exit(9);
  errno = fault == Fault::no_space ? ENOSPC : EIO;
  return fault == Fault::no_space || fault == Fault::io_error || (fault == Fault::passing_error && call == nth_call);
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
    note_change(path_of(fd));
    if (fault == gf::Fault::wrong_write && num_calls == nth_call + 1 && size > 0) {
      std::vector<char> other(static_cast<const char*>(data), static_cast<const char*>(data) + size);
      other[size / 2] ^= 1;
      return real(fd, other.data(), size, offset...);
    }
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

// Of the calls that change a file's length.
template <class... Args>
int resize(const char* name, int fd, Args... args) {
  static auto* const real = next<int(int, Args...)>(name);
  if (is_watched(fd)) {
    if (fails()) return -1;
    note_change(path_of(fd));
  }
  return real(fd, args...);
}

// Of those that take a name away.
template <class F>
int take_away(const std::string& path, const F& real) {
  if (!is_watched(path.c_str())) return real();
  tell(path, "");
  if (fails()) return -1;
  const int result = real();
  if (result == 0) note_move(path, "");
  return result;
}

int open_as(const char* name, const char* path, int flags, mode_t mode) {
  static auto* const real = next<int(const char*, int, ...)>(name);
  if (!(flags & O_CREAT) || !is_watched(path)) return real(path, flags, mode);
  const bool is_new = faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
  if (is_new) tell("", path);
  if (fails()) return -1;
  const int result = real(path, flags, mode);
  if (result >= 0 && (is_new || (flags & O_TRUNC))) note_change(path);
  if (result >= 0 && is_new) note_entry(path);
  return result;
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

int stat(const char* path, struct stat* status) noexcept {
  static auto* const real = next<int(const char*, struct stat*)>("stat");
  if (fault != gf::Fault::look_error || !is_watched(path) || num_calls++ < nth_call) return real(path, status);
  errno = ESTALE;
  return -1;
}

// Counted but not done: no test pulls the plug, and a thousand real syncs would take most of its time.
int fsync(int fd) {
  if (is_watched(fd)) {
    if (fails() || refused(0, 0)) return -1;
    note_sync(path_of(fd));
  }
  return 0;
}

// Likewise. Without waiting it is a hint, whose failure nobody looks at. It makes nothing durable by itself.
int sync_file_range(int fd, off64_t begin, off64_t bytes, unsigned flags) {
  if (!(flags & SYNC_FILE_RANGE_WAIT_AFTER) || !is_watched(fd)) return 0;
  return fails() || refused(begin, bytes) ? -1 : 0;
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
  return resize("ftruncate", fd, size);
}

int ftruncate64(int fd, off64_t size) noexcept {
  return resize("ftruncate64", fd, size);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
  return resize("fallocate", fd, mode, at, size);
}

int rename(const char* from, const char* to) noexcept {
  static auto* const real = next<int(const char*, const char*)>("rename");
  if (!is_watched(to)) return real(from, to);
  tell(from, to);
  if (fails()) return -1;
  const int result = real(from, to);
  if (result == 0) note_move(from, to);
  return result;
}

int mkdir(const char* path, mode_t mode) noexcept {
  static auto* const real = next<int(const char*, mode_t)>("mkdir");
  if (!is_watched(path)) return real(path, mode);
  tell("", path);
  if (fails()) return -1;
  const int result = real(path, mode);
  if (result == 0) note_entry(path);
  return result;
}

int unlink(const char* path) noexcept {
  static auto* const real = next<int(const char*)>("unlink");
  return take_away(path, [&] { return real(path); });
}

int rmdir(const char* path) noexcept {
  static auto* const real = next<int(const char*)>("rmdir");
  return take_away(path, [&] { return real(path); });
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  static auto* const real = next<int(int, const char*, int)>("unlinkat");
  const std::string whole = path[0] != '/' && folder != AT_FDCWD ? path_of(folder) + "/" + path : path;
  return take_away(whole, [&] { return real(folder, path, flags); });
}

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open_as("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open_as("open64", path, flags, mode);
}

}  // extern "C"

namespace gf {

FaultyDisk::FaultyDisk(std::string folder, Fault kind, int nth) {
  fault = kind;
  nth_call = nth;
  num_calls = 0;
  watched_length = std::min(folder.size(), sizeof watched - 1);
  std::memcpy(watched, folder.c_str(), watched_length);
  const std::lock_guard lock(mutex);
  unsynced_paths = new std::set<std::string>;
  name_change = new NameChange;
  sync_asked = new Sync;
}

FaultyDisk::~FaultyDisk() {
  watched_length = 0;
  const std::lock_guard lock(mutex);
  delete std::exchange(unsynced_paths, nullptr);
  delete std::exchange(name_change, nullptr);
  delete std::exchange(sync_asked, nullptr);
}

int FaultyDisk::calls() const {
  return num_calls;
}
bool FaultyDisk::reached() const {
  return num_calls > nth_call;
}

std::set<std::string> FaultyDisk::unsynced(const std::string& below) const {
  const std::lock_guard lock(mutex);
  std::set<std::string> found = *unsynced_paths;
  std::erase_if(found, [&](const std::string& path) {
    return !is_at_or_below(path, below) || !std::filesystem::exists(std::filesystem::symlink_status(path));
  });
  return found;
}

void FaultyDisk::before_name_change(NameChange f) {
  *name_change = std::move(f);
}

void FaultyDisk::before_sync(Sync f) {
  *sync_asked = std::move(f);
}

}  // namespace gf
