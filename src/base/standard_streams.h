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

}  // namespace gf
