// SPDX-License-Identifier: Apache-2.0
#include "train/page_text.h"

#include <nlohmann/json.hpp>

namespace gf {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += c;
  }
  return out;
}

// "<" could end the script element or open a comment; inside a JSON string its escape means the same.
std::string json_text(const std::string& text) {
  const std::string quoted = nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  std::string out;
  for (const char c : quoted) out += c == '<' ? "\\u003c" : std::string(1, c);
  return out;
}

}  // namespace gf
