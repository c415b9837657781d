// SPDX-License-Identifier: Apache-2.0
#include "base/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "base/error.h"

namespace gf {

void hold_standard_descriptors() {
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(standard, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest that is free, and those below are taken: this one.
    const int got = ::open("/dev/null", standard == STDERR_FILENO ? O_WRONLY : O_RDONLY);
    if (got != standard)
      fail(cat("descriptor ", standard, " is closed, and nothing can be put in its place: ", std::strerror(errno)),
           "standard input, output and error that are open");
  }
}

void print_text_of_note(std::string_view text) noexcept {
  // Of an unbuffered stream: what cannot be written now is not kept for later.
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
}

void print_text_of_output(std::string_view text) noexcept {
  (void)std::fwrite(text.data(), 1, text.size(), stdout);
}

void finish_output() {
  const bool sent = std::fflush(stdout) == 0;
  // What was lost before that left its mark on the stream, and its reason as good as always here.
  const int reason = errno;
  if (!sent || std::ferror(stdout) || !std::cout.flush())
    fail(cat("cannot write to standard output: ", std::strerror(reason)));
}

}  // namespace gf
