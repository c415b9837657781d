// SPDX-License-Identifier: Apache-2.0
// Lines from a pipe, a terminal or a file, as they come: whoever writes them may wait for an answer before the next
// one.
#pragma once
#include <unistd.h>

#include <optional>
#include <string>

#include "base/signals.h"

namespace gf {

class InputLines {
 public:
  static constexpr size_t kLongest = size_t{1} << 28;  // bytes: 2^24 tokens as a list of numbers are less

  // With a StopSignal, next() does not wait for more once that came.
  explicit InputLines(int descriptor = STDIN_FILENO, size_t longest = kLongest, const StopSignal* stop = nullptr)
      : descriptor_(descriptor), longest_(longest), stop_(stop) {}
  std::optional<std::string> next() { return next(true); }      // waits for one; none at the end
  std::optional<std::string> at_hand() { return next(false); }  // one that has come; else none

  // A line of more than `longest` bytes comes without most of the rest, and is refused here, so that it takes no more
  // memory and others can be read after it.
  void check_length(const std::string& line) const;

 private:
  std::optional<std::string> next(bool wait);
  bool more_is_there(int milliseconds) const;
  bool more_comes() const;
  void read_more();
  const int descriptor_;
  const size_t longest_;
  const StopSignal* const stop_;
  std::string rest_{};   // read and not dropped yet
  size_t begin_ = 0;     // of what was not given yet
  size_t searched_ = 0;  // up to here there is no end of a line
  bool ended_ = false;
};

}  // namespace gf
