// SPDX-License-Identifier: Apache-2.0
#include "tools/input_lines.h"

#include <poll.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace gf {

std::optional<std::string> InputLines::next(bool wait) {
  while (true) {
    if (const size_t end = rest_.find('\n', searched_); end != std::string::npos) {
      std::string line = rest_.substr(begin_, end - begin_);
      begin_ = searched_ = end + 1;
      return line;
    }
    if (ended_) {
      if (begin_ == rest_.size()) return std::nullopt;
      std::string line = rest_.substr(begin_);
      begin_ = searched_ = rest_.size();
      return line;
    }
    if (wait ? !more_comes() : !more_is_there(0)) return std::nullopt;
    rest_.erase(0, begin_);
    begin_ = 0;
    if (rest_.size() > longest_ + 1) rest_.resize(longest_ + 1);
    searched_ = rest_.size();
    read_more();
  }
}

void InputLines::check_length(const std::string& line) const {
  if (line.size() > longest_) refuse(cat("a line of more than ", longest_, " bytes"), "shorter lines");
}

bool InputLines::more_is_there(int milliseconds) const {
  pollfd in{descriptor_, POLLIN, 0};
  return ::poll(&in, 1, milliseconds) > 0;
}

// Or the end, or an error, which a read tells; false: a signal came first.
bool InputLines::more_comes() const {
  // A signal's handler restarts a read, so that the wait must not be one; it may come just before the wait begins.
  constexpr int kLook = 100;
  while (stop_) {
    if (stop_->received() != 0) return false;
    if (more_is_there(kLook)) break;
  }
  return true;
}

void InputLines::read_more() {
  char bytes[1 << 16];
  const ssize_t n = ::read(descriptor_, bytes, sizeof bytes);
  if (n < 0 && errno != EINTR) fail(cat("cannot read standard input: ", std::strerror(errno)));
  if (n == 0) ended_ = true;
  if (n > 0) rest_.append(bytes, static_cast<size_t>(n));
}

}  // namespace gf
