// SPDX-License-Identifier: Apache-2.0
#include "io/run_folder.h"

#include <unistd.h>

#include <bit>
#include <chrono>
#include <climits>
#include <exception>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "parallel/agreement.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr const char* kElsewhere = "another --train.proj_dir, or the rights to write there";

std::string on_this_machine() {
  char host[HOST_NAME_MAX + 1] = {};
  ::gethostname(host, HOST_NAME_MAX);
  return cat(" on ", host);
}

std::string who_am_i() {
  return cat("process ", ::getpid(), on_this_machine());
}

// Who has the lock, or had it last and was killed.
std::string holder_named_in(const File& lock) {
  std::string holder(255, '\0');
  holder.resize(lock.read_some_at(std::as_writable_bytes(std::span(holder)), 0));
  return holder;
}

// A network file system remembers for a while that nothing was there. Who opens the folders above makes it ask again.
bool appears(const fs::path& path) {
  constexpr double kPatience = 2;  // seconds
  const Stopwatch watch;
  std::error_code none;
  while (true) {
    fs::path above;
    for (const fs::path& name : path.parent_path()) fs::directory_iterator(above /= name, none);
    if (fs::exists(path, none)) return true;
    if (watch.seconds() > kPatience) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

// A link may lead to those of another run, which has a lock of its own: this run would go on from them, and remove them
// as older than what is to be kept. So does one in a copy of a run folder.
void refuse_checkpoints_elsewhere(const RunPaths& paths) {
  const fs::path link = paths.checkpoints();
  std::error_code none;
  if (!fs::is_symlink(link, none)) return;
  refuse(cat(link.string(), " is a symbolic link to ", fs::read_symlink(link, none).string(),
             ", which may be another run's: a run keeps its checkpoints in its own folder"),
         cat("the folder itself in its place; or all of ", paths.root().string(),
             " on that disk, by --train.proj_dir or as a link itself"));
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

// Writing is tried now, not after an hour of training. The folder may come from anywhere: its own name may lead to
// another disk, but none in it decides what is written or removed elsewhere.
File RunFolder::create_locked() {
  for (const fs::path& name : {lock(), metrics(), config()}) refuse_link(name);
  refuse_checkpoints_elsewhere(*this);
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
    const std::string holder = holder_named_in(file);
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

std::string holder_on_this_machine(const RunPaths& paths) {
  std::error_code none;
  if (!fs::is_regular_file(fs::symlink_status(paths.lock(), none))) return {};
  try {
    File file = File::append_to(paths.lock());  // a network file system locks only what is open for writing
    // The name first: asking for the lock takes it for a moment where nobody has it, which is when a run may want it.
    const std::string holder = holder_named_in(file);
    if (!holder.ends_with(on_this_machine()) || file.lock() != File::Lock::another_has_it) return {};
    return holder;
  } catch (const Error&) {
    return {};  // the run, which needs more than this of its folder, says what is wrong with it
  }
}

void check_all_see(const RunPaths& paths, Communicator& ranks) {
  if (ranks.size() == 1) return;
  const bool first = ranks.rank() == 0;
  // A name that nobody has looked for yet.
  const Tensor number = Tensor::of<double>({2}, {static_cast<double>(::getpid()), seconds_now()});
  ranks.broadcast(number, 0);
  const double *const process = number.data<double>(), *const seconds = process + 1;
  const fs::path sign =
      paths.checkpoints() / cat("sign-", static_cast<int64_t>(*process), "-", std::bit_cast<uint64_t>(*seconds));
  all_or_none(ranks, [&] {
    if (first) File::create(sign).close();
  });
  const auto look = [&] {
    if (!first && !appears(sign))
      refuse(cat("this rank does not see what the first one has made in the run folder ", paths.root().string()),
             "a --train.proj_dir that is the same folder on all nodes");
  };
  std::exception_ptr error;
  try {
    all_or_none(ranks, look);
  } catch (const AgreedError&) {
    error = std::current_exception();
  }
  std::error_code none;  // a sign that stays is nobody's harm
  if (first) fs::remove(sign, none);
  if (error) std::rethrow_exception(error);
}

}  // namespace gf
