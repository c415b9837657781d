// SPDX-License-Identifier: Apache-2.0
#include "support/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "support/files.h"

extern char** environ;

namespace gf {
namespace {

constexpr auto kLongest = std::chrono::minutes(2), kNever = std::chrono::minutes(0);
constexpr auto kLook = std::chrono::microseconds(300);

std::vector<std::string> environment_with(std::map<std::string, std::string> changes) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (!changes.contains(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const auto& [name, value] : changes) all.push_back(cat(name, "=", value));
  return all;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

}  // namespace

Process::Process(const std::string& name, const std::vector<std::string>& arguments,
                 const std::map<std::string, std::string>& environment, const std::string& input) {
  const std::string program = name.find('/') == std::string::npos ? cat(GF_BIN_DIR, "/", name) : name;
  std::vector<std::string> words{program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const std::vector<std::string> settings = environment_with(environment);
  const std::string in = folder_ / "in", out = folder_ / "out", err = folder_ / "err";
  write_file(in, input);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int error =
      posix_spawn(&pid_, program.c_str(), &files, nullptr, pointers(words).data(), pointers(settings).data());
  posix_spawn_file_actions_destroy(&files);
  GF_CHECK(error == 0, "cannot start ", program);
}

Process::~Process() {
  if (!running()) return;
  send(SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::vector<pid_t> Process::children() const {
  std::vector<pid_t> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    std::ifstream in(entry.path() / "stat");
    std::string text;
    if (!std::getline(in, text)) continue;
    // "pid (name) state ppid ...", where a name may have spaces and brackets.
    std::istringstream rest(text.substr(text.rfind(')') + 1));
    char state = 0;
    pid_t parent = 0;
    rest >> state >> parent;
    if (parent == pid_) all.push_back(static_cast<pid_t>(std::stol(entry.path().filename())));
  }
  std::sort(all.begin(), all.end());
  return all;
}

bool Process::running() {
  if (!ended_) ended_ = waitpid(pid_, &status_, WNOHANG) == pid_;
  return !ended_;
}

void Process::send(int signal) {
  if (running()) kill(pid_, signal);
}

bool Process::wait_until(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + kLongest;
  while (!holds()) {
    if (!running()) return holds();
    if (end - std::chrono::steady_clock::now() < kNever) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

ProgramResult Process::wait() {
  if (!wait_until([&] { return !running(); })) {
    kill(pid_, SIGKILL);
    ended_ = waitpid(pid_, &status_, 0) == pid_;
  }
  return {WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_), out(), read_file(folder_ / "err")};
}

std::string Process::out() const {
  return read_file(folder_ / "out");
}

}  // namespace gf
