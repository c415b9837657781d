// SPDX-License-Identifier: Apache-2.0
#include "train/text_stream.h"

#include <algorithm>
#include <cstdint>

namespace gf {
namespace {

// Bytes of the character that begins with this one; 1 for what begins none.
size_t length_by(uint8_t lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 1;
}

// Some leads allow fewer second bytes: no overlong forms, no surrogates, nothing above U+10FFFF.
bool may_follow(uint8_t lead, uint8_t second) {
  switch (lead) {
    case 0xE0:
      return second >= 0xA0;
    case 0xED:
      return second <= 0x9F;
    case 0xF0:
      return second >= 0x90;
    case 0xF4:
      return second <= 0x8F;
    default:
      return true;
  }
}

// Bytes at the end of `text` with which `stop` begins, not all of it.
size_t begun(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
    if (text.ends_with(stop.substr(0, n))) return n;
  return 0;
}

}  // namespace

size_t unfinished_character(std::string_view text) {
  for (size_t n = 1; n <= std::min<size_t>(3, text.size()); ++n) {
    const std::string_view tail = text.substr(text.size() - n);
    const auto lead = static_cast<uint8_t>(tail[0]);
    if ((lead & 0xC0) == 0x80) continue;  // what it belongs to began further back
    const bool may = n == 1 || may_follow(lead, static_cast<uint8_t>(tail[1]));
    return may && n < length_by(lead) ? n : 0;
  }
  return 0;
}

bool TextStream::add(std::string_view bytes) {
  held_ += bytes;
  size_t found = std::string::npos, maybe = 0;
  for (const std::string& stop : stops_) {
    found = std::min(found, held_.find(stop));
    maybe = std::max(maybe, begun(held_, stop));
  }
  if (found == std::string::npos) {
    pass_on(held_.size() - maybe);
    return true;
  }
  held_.resize(pass_on(found));
  return false;
}

std::string TextStream::finish() {
  pass_on(held_.size());
  return take_held();
}

size_t TextStream::pass_on(size_t bytes) {
  const std::string_view text = std::string_view(held_).substr(0, bytes);
  const size_t unfinished = unfinished_character(text);
  if (unfinished < bytes) sink_(text.substr(0, bytes - unfinished));
  held_.erase(0, bytes - unfinished);
  return unfinished;
}

}  // namespace gf
