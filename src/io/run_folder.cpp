// SPDX-License-Identifier: Apache-2.0
#include "io/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "base/error.h"
#include "io/files.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr const char* kElsewhere = "another --train.proj_dir, or the rights to write there";

fs::path folder_in(const fs::path& proj_dir, const std::string& name, const std::string& suffix) {
  for (const auto& [key, value] : {std::pair("proj_name", &name), std::pair("proj_suffix", &suffix)})
    if (value->empty() || value->find('/') != std::string::npos || value->find('\0') != std::string::npos)
      refuse(cat("train.", key, " is \"", *value, "\", which cannot be part of a folder's name"));
  return proj_dir / (name + "-" + suffix);
}

std::string who_am_i() {
  char host[HOST_NAME_MAX + 1] = {};
  ::gethostname(host, HOST_NAME_MAX);
  return cat("process ", ::getpid(), " on ", host);
}

}  // namespace

RunPaths::RunPaths(const fs::path& proj_dir, const std::string& name, const std::string& suffix)
    : root_(folder_in(proj_dir, name, suffix)) {}

RunFolder::RunFolder(RunPaths paths) : RunPaths(std::move(paths)) {
  create();
  take_lock();
}

RunFolder::~RunFolder() {
  // The name goes, the file stays: who removes a lock file may remove the one that another process just took.
  if (exclusive_ && ::ftruncate(descriptor_, 0) != 0) exclusive_ = false;
  ::close(descriptor_);
}

// Writing is tried now, not after an hour of training.
void RunFolder::create() const {
  try {
    create_folder_durably(checkpoints());
    const fs::path probe = checkpoints() / cat("probe-", ::getpid());
    File::create(probe).close();
    fs::remove(probe);
  } catch (const std::exception& e) {
    refuse(cat("the run folder ", root().string(), " cannot be written: ", e.what()), kElsewhere);
  }
}

void RunFolder::take_lock() {
  descriptor_ = ::open(lock().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) refuse(cat("cannot open ", lock().string(), ": ", std::strerror(errno)), kElsewhere);
  exclusive_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  if (!exclusive_ && errno == EWOULDBLOCK) {
    char holder[256] = {};
    const ssize_t length = ::pread(descriptor_, holder, sizeof holder - 1, 0);
    ::close(descriptor_);
    refuse(cat("the run folder ", root().string(), " is in use by ", length > 0 ? holder : "another process"),
           "wait for it to end, or another --train.proj_suffix");
  }
  const std::string me = who_am_i();
  // Only told to others; who holds the lock is the system's knowledge.
  if (exclusive_ && (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, me.data(), me.size(), 0) < 0)) return;
}

}  // namespace gf
