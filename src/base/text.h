// SPDX-License-Identifier: Apache-2.0
// Text for messages.
#pragma once
#include <sstream>
#include <string>
#include <string_view>

namespace gf {

// The items, streamed one after another with a separator between them.
template <class Range>
std::string joined(const Range& items, std::string_view separator = ", ") {
  std::ostringstream out;
  std::string_view before;
  for (const auto& item : items) {
    out << before << item;
    before = separator;
  }
  return out.str();
}

std::string_view without_blanks(std::string_view);  // at its ends

// What stands in a file or on a line that somebody else wrote, as it may stand in a message: of so many bytes at most,
// and none that a terminal obeys.
std::string shortened(std::string_view foreign, size_t most = 60);
std::string cited(std::string_view foreign);  // the same, in quotes
// What a parser's exception says: it goes on with a piece of the text, of any length.
std::string parser_message(std::string_view what);

}  // namespace gf
