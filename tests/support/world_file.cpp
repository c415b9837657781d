// SPDX-License-Identifier: Apache-2.0
#include "support/world_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/random.h"

namespace gf {
namespace {

bool plain(char c) {
  return c >= ' ' && c < 127;
}

}  // namespace

std::string python_repr(std::string_view bytes) {
  const bool ascii = std::ranges::all_of(bytes, [](char c) { return static_cast<unsigned char>(c) < 128; });
  std::string out = ascii ? "'" : "b'";
  for (const char c : bytes) {
    if (c == '\'' || c == '\\') {
      out += '\\', out += c;
    } else if (plain(c)) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out + "'";
}

std::string world_line(int64_t id, std::string_view bytes) {
  return fmt::format("{} {} {}\n", id, python_repr(bytes), bytes.size());
}

std::string world_file(const std::vector<std::string>& more) {
  std::string out;
  for (int i = 0; i < 256; ++i) out += world_line(i + 1, std::string(1, static_cast<char>(i)));
  for (size_t i = 0; i < more.size(); ++i) out += world_line(static_cast<int64_t>(i) + 257, more[i]);
  return out;
}

std::vector<std::string> made_up_tokens(size_t count) {
  const Random random(1, "tokens");
  std::set<std::string> seen;
  std::vector<std::string> tokens;
  for (uint64_t i = 0; tokens.size() < count; ++i) {
    const uint64_t bits = random.bits(2 * i);
    // Half begin as an earlier one does and go on.
    std::string token = tokens.empty() || bits % 2 ? "" : tokens[(bits >> 8) % tokens.size()];
    const size_t extra = (token.empty() ? 2 : 1) + (bits >> 40) % 3;
    for (size_t k = 0; k < extra; ++k) {
      const uint64_t pick = random.bits(2 * i + 1) >> (16 * k);
      token += pick % 8 == 0 ? static_cast<char>(pick >> 8) : " etaoin\n"[pick >> 8 & 7];
    }
    if (token.size() <= 12 && seen.insert(token).second) tokens.push_back(token);
  }
  return tokens;
}

std::string made_up_text(const std::vector<std::string>& tokens, size_t bytes, uint64_t seed) {
  const Random random(seed, "text");
  std::string text;
  for (uint64_t i = 0; text.size() < bytes; ++i) {
    const uint64_t bits = random.bits(i);
    if (bits % 16 == 0) {
      text += static_cast<char>(bits >> 32);
    } else {
      const std::string& token = tokens[(bits >> 8) % tokens.size()];
      text += token.substr(0, 1 + (bits >> 4 & 15) % token.size());
    }
  }
  text.resize(bytes);
  return text;
}

}  // namespace gf
