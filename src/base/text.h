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

}  // namespace gf
