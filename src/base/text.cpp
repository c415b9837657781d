// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <algorithm>

namespace gf {

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

std::string shortened(std::string_view foreign, size_t most) {
  size_t end = std::min(foreign.size(), most);
  // Not within a character of UTF-8, which has three bytes more than its first at most.
  for (int more = 3; more > 0 && 0 < end && end < foreign.size(); --more, --end)
    if ((static_cast<unsigned char>(foreign[end]) & 0xc0) != 0x80) break;
  std::string out(foreign.substr(0, end));
  std::ranges::replace_if(
      out, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  // Control characters from U+0080 on, of two bytes: U+009b begins what ESC [ does.
  for (size_t at = 0; (at = out.find('\xc2', at)) != std::string::npos; ++at)
    if (at + 1 < out.size() && static_cast<unsigned char>(out[at + 1]) < 0xa0) out.replace(at, 2, "?");
  return end < foreign.size() ? out + "..." : out;
}

std::string cited(std::string_view foreign) {
  return '"' + shortened(foreign) + '"';
}

std::string parser_message(std::string_view what) {
  return shortened(what, 240);
}

}  // namespace gf
