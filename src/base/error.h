// SPDX-License-Identifier: Apache-2.0
// Errors. A library function throws; only a main() ends the process, with the status the error carries.
// `what` says what is wrong with both values, `hint` what to do about it.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace gf {

// Exit statuses, as promised to scripts.
enum class Exit : int {
  done = 0,
  failed = 1,         // anything not listed below
  bad_input = 2,      // an option, config, data file or checkpoint is wrong; nothing was changed
  stopped_early = 75  // saved; run the same command to go on
};

// std::source_location would do, but clang-tidy 14 cannot parse libstdc++'s.
struct Where {
  const char* file;
  int line;
  static constexpr Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

class Error : public std::runtime_error {
 public:
  Error(const std::string& what, std::string hint, Exit status, Where where)
      : std::runtime_error(what), hint_(std::move(hint)), status_(status), where_(where) {}
  const std::string& hint() const { return hint_; }
  Exit status() const { return status_; }
  Where where() const { return where_; }

 private:
  std::string hint_;
  Exit status_;
  Where where_;
};

// The arguments, streamed one after another.
template <class... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

// Something went wrong that the user's input did not cause: status 1.
[[noreturn]] inline void fail(const std::string& what, std::string hint = {}, Where where = Where::here()) {
  throw Error(what, std::move(hint), Exit::failed, where);
}

// The user's input is wrong: status 2. To be thrown before anything was changed.
[[noreturn]] inline void refuse(const std::string& what, std::string hint = {}, Where where = Where::here()) {
  throw Error(what, std::move(hint), Exit::bad_input, where);
}

}  // namespace gf

// An invariant of our own code; always on. A macro, to quote the condition.
#define GF_CHECK(cond, ...)                                            \
  do {                                                                 \
    if (!(cond)) ::gf::fail(::gf::cat(__VA_ARGS__, " [", #cond, "]")); \
  } while (0)
