// SPDX-License-Identifier: Apache-2.0
#include "base/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "base/error.h"

namespace gf {
namespace {

constexpr int kCannotRun = 127;  // what a shell says too

// In the child, where only what is safe between fork and exec may be called.
[[noreturn]] void become(const char* program, char* const* arguments, int log, pid_t parent) {
  const bool ready = dup2(log, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0 &&
                     prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent;
  if (ready) execv(program, arguments);
  _exit(kCannotRun);
}

int open_log(const std::filesystem::path& log) {
  // For reading too: a named pipe in its place, opened for writing alone, would wait for a reader for ever.
  const int out = open(log.c_str(), O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (out < 0) fail(cat("cannot write ", log.string(), ": ", std::strerror(errno)));
  struct stat info {};
  if (fstat(out, &info) == 0 && S_ISREG(info.st_mode)) return out;
  close(out);
  fail(cat("cannot write ", log.string(), ": it is not a regular file"), "remove it, or write to another folder");
}

}  // namespace

ChildResult run_child(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                      const std::filesystem::path& log, const StopSignal& stop) {
  const int out = open_log(log);
  std::string name = program.string();
  std::vector<std::string> words = arguments;
  std::vector<char*> pointers{name.data()};
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t self = getpid(), child = fork();
  if (child == 0) become(name.c_str(), pointers.data(), out, self);
  const int error = errno;
  close(out);
  if (child < 0) fail(cat("cannot start ", name, ": ", std::strerror(error)));
  int status = 0;
  rusage usage{};
  for (bool asked = false;;) {
    // A signal's handler restarts a wait, so that the wait must not be one.
    const pid_t ended = wait4(child, &status, WNOHANG, &usage);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR) fail(cat("cannot wait for ", name, ": ", std::strerror(errno)));
    if (!asked && stop.received() != 0) asked = kill(child, SIGTERM) == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ChildResult result;
  result.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  result.peak_bytes = static_cast<size_t>(usage.ru_maxrss) * 1024;
  return result;
}

std::filesystem::path program_beside(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  auto program = self.parent_path() / name;
  if (error || access(program.c_str(), X_OK) != 0)
    fail(cat("there is no ", name, " beside this program, in ", self.parent_path().string()),
         "a whole build: cmake --build --preset cpu");
  return program;
}

}  // namespace gf
