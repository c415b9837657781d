// SPDX-License-Identifier: Apache-2.0
// Standard streams as somebody else left them: closed, or open to what takes nothing.
#pragma once
#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace gf {

// Before anything is opened: a standard descriptor that is closed would become the next file's, and what is printed
// would go into that file. It gets /dev/null; that of standard output cannot be written, so that what is lost there is
// seen.
void hold_standard_descriptors();

// Writes to standard error. That nobody can read what is said by the way is no reason to end what is being done.
void print_text_of_note(std::string_view text) noexcept;
template <class... Args>
void print_note(fmt::format_string<Args...> text, Args&&... args) {
  print_text_of_note(fmt::format(text, std::forward<Args>(args)...));
}

// Writes to standard output, and goes on where that takes nothing: a log that nobody gets is no reason to end a run
// either. Where the output is all that was asked for, finish_output() says whether it got there.
void print_text_of_output(std::string_view text) noexcept;
template <class... Args>
void print_output(fmt::format_string<Args...> text, Args&&... args) {
  print_text_of_output(fmt::format(text, std::forward<Args>(args)...));
}
void finish_output();  // fails where any of it did not

}  // namespace gf
