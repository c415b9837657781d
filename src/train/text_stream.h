// SPDX-License-Identifier: Apache-2.0
// Text that is made piece by piece and shown at once, though never half a UTF-8 character, and nothing of a stop text.
// Bytes are held back while they may still become either; those that can be neither are passed on as they are.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gf {

// Bytes at the end of `text` that begin a character and do not finish it: 0 to 3.
size_t unfinished_character(std::string_view text);

class TextStream {
 public:
  using Sink = std::function<void(std::string_view)>;
  // `begun`: what the text before this one held back at its end.
  TextStream(std::vector<std::string> stops, Sink sink, std::string begun = {})
      : stops_(std::move(stops)), sink_(std::move(sink)), held_(std::move(begun)) {}

  // False once a stop text came: what stands before it was passed on, the rest is dropped, and nothing may follow.
  bool add(std::string_view bytes);
  // The end: what was held back for a stop text is passed on, an unfinished character is not. Returns that one's bytes.
  std::string finish();
  // The end of a part of the text, which goes on elsewhere: passes nothing on, and returns all that was held back.
  std::string take_held() { return std::exchange(held_, {}); }

 private:
  size_t pass_on(size_t bytes);  // of what is held back, less an unfinished character; returns the bytes of that

  std::vector<std::string> stops_;
  Sink sink_;
  std::string held_;
};

}  // namespace gf
