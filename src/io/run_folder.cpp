// SPDX-License-Identifier: Apache-2.0
#include "io/run_folder.h"

#include <unistd.h>

#include <climits>

#include "base/error.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr const char* kElsewhere = "another --train.proj_dir, or the rights to write there";

std::string who_am_i() {
  char host[HOST_NAME_MAX + 1] = {};
  ::gethostname(host, HOST_NAME_MAX);
  return cat("process ", ::getpid(), " on ", host);
}

}  // namespace

RunFolder::RunFolder(RunPaths paths) : RunPaths(std::move(paths)), lock_(create_locked()) {}

RunFolder::~RunFolder() {
  if (!exclusive_) return;
  try {
    // The name goes, the file stays: who removes a lock file may remove the one that another process just took.
    lock_.shorten(0);
  } catch (const Error&) {
    // A name that stays means nothing without the lock.
  }
}

// Writing is tried now, not after an hour of training. The folder may come from anywhere: its own name, and that of its
// checkpoints, may lead to another disk, but none in it decides what file is overwritten.
File RunFolder::create_locked() {
  for (const fs::path& name : {lock(), metrics(), config()}) refuse_link(name);
  const auto open = [&] {
    try {
      create_folder_durably(checkpoints());
      const fs::path probe = checkpoints() / cat("probe-", ::getpid());
      File::create(probe).close();
      fs::remove(probe);
      return File::append_to(lock());
    } catch (const std::exception& e) {
      refuse(cat("the run folder ", root().string(), " cannot be written: ", e.what()), kElsewhere);
    }
  };
  File file = open();
  const File::Lock got = file.lock();
  if (got == File::Lock::another_has_it) {
    std::string holder(255, '\0');
    holder.resize(file.read_some_at(std::as_writable_bytes(std::span(holder)), 0));
    refuse(cat("the run folder ", root().string(), " is in use by ", holder.empty() ? "another process" : holder),
           "wait for it to end, or another --train.proj_suffix");
  }
  exclusive_ = got == File::Lock::own;
  if (exclusive_) {  // only told to others; who holds the lock is the system's knowledge
    const std::string me = who_am_i();
    file.shorten(0);
    file.write(std::as_bytes(std::span(me)));
  }
  return file;
}

}  // namespace gf
