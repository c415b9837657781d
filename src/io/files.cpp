// SPDX-License-Identifier: Apache-2.0
#include "io/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kLongestCall = int64_t{64} << 20;  // bytes moved by one read or write

[[noreturn]] void fail_at(const char* doing, const fs::path& path, int error, Exit status = Exit::failed) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  throw Error(cat("cannot ", doing, " ", path.string(), ": ", std::strerror(error)),
              full ? "free some space on that disk, or write to another one" : "", status, Where::here());
}

// Calls f until no signal interrupts it.
template <class F>
auto retry(F&& f) {
  auto result = f();
  while (result < 0 && errno == EINTR) result = f();
  return result;
}

int open_descriptor(const fs::path& path, int flags) {
  return retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); });
}

// False where there was nothing.
bool removed(const fs::path& path) {
  if (::unlink(path.c_str()) == 0) return true;
  if (errno == ENOENT) return false;
  if (errno != EISDIR || ::rmdir(path.c_str()) != 0)
    fail(cat("cannot remove ", path.string(), ": ", std::strerror(errno)));
  return true;
}

}  // namespace

File::File(fs::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

File::File(File&& other) noexcept : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File File::open(const fs::path& path, const std::string& hint, Links links) {
  // Without O_NONBLOCK a named pipe in the file's place would wait for ever.
  const int flags = O_RDONLY | O_NONBLOCK | (links == Links::refuse ? O_NOFOLLOW : 0);
  File file(path, open_descriptor(path, flags));
  if (file.descriptor_ < 0) refuse(cat(path.string(), " cannot be read: ", std::strerror(errno)), hint);
  if (!file.regular())
    refuse(cat(path.string(), S_ISDIR(file.status().st_mode) ? " is a folder, not a file" : " is not a regular file"),
           hint);
  return file;
}

File File::open_stream(const fs::path& path, const std::string& hint) {
  File file(path, open_descriptor(path, O_RDONLY));
  if (file.descriptor_ < 0) refuse(cat(path.string(), " cannot be read: ", std::strerror(errno)), hint);
  if (S_ISDIR(file.status().st_mode)) refuse(cat(path.string(), " is a folder, not a file"), hint);
  return file;
}

File File::create_new(const fs::path& path, int flags, Exit status) {
  File file(path, open_descriptor(path, O_RDWR | O_CREAT | O_NOFOLLOW | flags));
  if (file.descriptor_ < 0) {
    const int error = errno;
    if (error == ELOOP) refuse_link(path);
    if (status == Exit::bad_input)
      refuse(cat(path.string(), " cannot be created: ", std::strerror(error)),
             "a folder that exists and may be written to");
    fail_at("create", path, error);
  }
  if (!file.regular()) refuse(path.string() + " is not a regular file", "another name");
  return file;
}

File File::create(const fs::path& path, Exit status) {
  return create_new(path, O_TRUNC, status);
}

// What another process holds must not be touched; what it has renamed meanwhile is not ours to empty either.
File File::create_alone(const fs::path& path, Exit status) {
  while (true) {
    File file = create_new(path, 0, status);
    if (file.lock() == Lock::another_has_it)
      refuse(cat(path.string(), " is being written by another process"), "wait for it to end, or another name");
    struct stat there {};
    const struct stat here = file.status();
    if (::stat(path.c_str(), &there) != 0 || there.st_ino != here.st_ino || there.st_dev != here.st_dev) continue;
    file.shorten(0);
    return file;
  }
}

File File::append_to(const fs::path& path, Exit status) {
  return create_new(path, O_APPEND, status);
}

File File::in_memory() {
  const int descriptor = ::memfd_create("gf", MFD_CLOEXEC);
  if (descriptor < 0) fail_at("create", "a file in memory", errno);
  return {cat("/proc/self/fd/", descriptor), descriptor};
}

struct stat File::status() const {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) fail_at("examine", path_, errno);
  return info;
}

int64_t File::size() const {
  return status().st_size;
}

bool File::regular() const {
  return S_ISREG(status().st_mode);
}

size_t File::read(std::span<std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t length = std::min<size_t>(bytes.size() - done, kLongestCall);
    const ssize_t got = retry([&] { return ::read(descriptor_, bytes.data() + done, length); });
    if (got < 0) fail_at("read", path_, errno);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

void File::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t length = std::min<size_t>(bytes.size(), kLongestCall);
    const ssize_t put = retry([&] { return ::write(descriptor_, bytes.data(), length); });
    if (put <= 0) fail_at("write", path_, put < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
}

size_t File::read_some_at(std::span<std::byte> bytes, int64_t offset) const {
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t length = std::min<size_t>(bytes.size() - done, kLongestCall);
    const ssize_t got =
        retry([&] { return ::pread(descriptor_, bytes.data() + done, length, offset + static_cast<int64_t>(done)); });
    if (got < 0) fail_at("read", path_, errno);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

void File::read_at(std::span<std::byte> bytes, int64_t offset) const {
  if (read_some_at(bytes, offset) == bytes.size()) return;
  refuse(cat(path_.string(), " ends at byte ", size(), ", but goes on to byte ",
             offset + static_cast<int64_t>(bytes.size()), " by what it says of itself"),
         "the file was cut off; take a whole copy");
}

void File::write_at(std::span<const std::byte> bytes, int64_t offset) {
  while (!bytes.empty()) {
    const size_t length = std::min<size_t>(bytes.size(), kLongestCall);
    const ssize_t put = retry([&] { return ::pwrite(descriptor_, bytes.data(), length, offset); });
    if (put <= 0) fail_at("write", path_, put < 0 ? errno : ENOSPC);
    // The disk begins now, not when all is in the page cache. Only a hint: sync() is what counts.
    if (put >= 1 << 20) ::sync_file_range(descriptor_, offset, put, SYNC_FILE_RANGE_WRITE);
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += put;
  }
}

void File::reserve(int64_t bytes) {
  if (bytes == 0 || retry([&] { return ::fallocate(descriptor_, 0, 0, bytes); }) == 0) return;
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO) fail_at("make room for", path_, errno);
  // Anything else: a file system that cannot reserve. The writes will tell.
  if (retry([&] { return ::ftruncate(descriptor_, bytes); }) != 0) fail_at("make room for", path_, errno);
}

void File::shorten(int64_t bytes) {
  if (retry([&] { return ::ftruncate(descriptor_, bytes); }) != 0) fail_at("shorten", path_, errno);
}

File::Lock File::lock() {
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return Lock::own;
  return errno == EWOULDBLOCK ? Lock::another_has_it : Lock::none_here;
}

void File::write_back(int64_t begin, int64_t end) {
  constexpr unsigned kAndWait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (retry([&] { return ::sync_file_range(descriptor_, begin, end - begin, kAndWait); }) == 0) return;
  const bool cannot = errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL || errno == ESPIPE;
  // Any other is a failed write, which sync() would not hear of again.
  if (!cannot) fail_at("sync", path_, errno);
}

void File::sync() {
  if (retry([&] { return ::fsync(descriptor_); }) != 0) fail_at("sync", path_, errno);
}

void File::close() {
  // Not again after EINTR: on Linux the descriptor is gone by then.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) fail_at("close", path_, errno);
}

std::string read_small_file(const fs::path& path, int64_t limit, const std::string& hint) {
  const File file = File::open(path, hint);
  const int64_t size = file.size();
  if (size > limit) refuse(cat(path.string(), " has ", size, " bytes; at most ", limit, " make sense here"), hint);
  std::string content(static_cast<size_t>(size), '\0');
  file.read_at(std::as_writable_bytes(std::span(content)), 0);
  return content;
}

void refuse_link(const fs::path& path) {
  std::error_code none;  // what cannot be looked at will be told of by who opens it
  if (fs::is_symlink(path, none))
    refuse(path.string() + " is a symbolic link, and what it leads to is not written",
           "remove it, or put the file itself in its place");
}

bool same_path(const fs::path& a, const fs::path& b) {
  const auto plain = [](const fs::path& path) {
    const fs::path whole = fs::weakly_canonical(fs::absolute(path));
    return whole.has_filename() ? whole : whole.parent_path();  // without a / at its end
  };
  return plain(a) == plain(b);
}

void sync_folder(const fs::path& path) {
  const fs::path folder = path.empty() ? fs::path(".") : path;
  const int descriptor = open_descriptor(folder, O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) fail_at("open", folder, errno);
  const int error = retry([&] { return ::fsync(descriptor); }) == 0 ? 0 : errno;
  ::close(descriptor);
  if (error != 0 && error != EINVAL) fail_at("sync", folder, error);  // EINVAL: a file system without it
}

void create_folder(const fs::path& path) {
  if (::mkdir(path.c_str(), 0777) != 0) fail_at("create the folder", path, errno);
}

void create_folder_durably(const fs::path& path, Exit status) {
  std::error_code none;  // what it would say, mkdir says too
  if (path.empty() || fs::is_directory(path, none)) return;
  create_folder_durably(path.parent_path(), status);
  if (::mkdir(path.c_str(), 0777) != 0) {
    const int error = errno;
    if (error != EEXIST) fail_at("create the folder", path, error, status);
    // Else another process was faster.
    if (!fs::is_directory(path, none)) fail_at("create the folder", path, ENOTDIR, status);
  }
  sync_folder(path.parent_path());
}

void rename_durably(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail(cat("cannot rename ", from.string(), " to ", to.string(), ": ", std::strerror(errno)));
  sync_folder(to.parent_path());
}

void remove_name(const fs::path& path) {
  removed(path);
}

void remove_durably(const fs::path& path) {
  if (removed(path)) sync_folder(path.parent_path());
}

void check_file_size_limit(const fs::path& path, int64_t bytes) {
  struct rlimit limit;
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  if (static_cast<uint64_t>(bytes) > limit.rlim_cur)
    fail(cat("cannot write ", path.string(), ": it needs ", bytes, " bytes, and this process may write files of ",
             limit.rlim_cur),
         "ulimit -f unlimited");
}

void allow_open_files(int64_t more) {
  constexpr int64_t kOthers = 64, kSpare = 1024;  // must be left for all else, and should: a connection is a file too
  std::error_code none;
  int64_t open = 0;
  for (fs::directory_iterator at("/proc/self/fd", none), end; at != end; at.increment(none)) ++open;
  struct rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const auto least = static_cast<rlim_t>(open + more + kOthers), most = limit.rlim_max;
  if (most < least)
    refuse(cat(more, " files are to be opened, and this process may have ", most, " open, of which ", open, " are"),
           "ulimit -Hn says what may be had; fewer and larger files");
  limit.rlim_cur = std::max(limit.rlim_cur, std::min(most, least + kSpare));
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    fail(cat("this process could not be allowed ", limit.rlim_cur, " open files: ", std::strerror(errno)));
}

std::optional<int64_t> free_bytes(const fs::path& path) {
  std::error_code error;
  const fs::space_info space = fs::space(path, error);
  if (error) return std::nullopt;
  return static_cast<int64_t>(std::min<uintmax_t>(space.available, INT64_MAX));
}

}  // namespace gf
