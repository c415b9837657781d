// SPDX-License-Identifier: Apache-2.0
#include "io/text/jsonl.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "io/text/json_object.h"

namespace gf {
namespace {

constexpr size_t kChunk = size_t{4} << 20;

// The text under each of some keys.
class TextsUnderKeys final : public JsonObjectReader {
 public:
  explicit TextsUnderKeys(std::span<const std::string> keys) : texts(keys.size()), keys_(keys) {}
  std::vector<std::optional<std::string>> texts;

  void key(const std::string& name) override {
    wanted_ = static_cast<size_t>(std::ranges::find(keys_, name) - keys_.begin());
  }
  void value(JsonValue v) override {
    if (wanted_ == keys_.size()) return;
    if (v.kind != JsonValue::Kind::text)
      refuse(cat("text is wanted under \"", keys_[wanted_], "\", and there is ", name_of(v.kind)));
    texts[wanted_] = std::move(v.text);  // of several under one key the last counts, as in Python
  }

 private:
  std::span<const std::string> keys_;
  size_t wanted_ = keys_.size();  // which key's value comes next; their number: none
};

// Cuts a file into lines. A line is valid until the next call.
class LineReader {
 public:
  LineReader(File& file, const std::function<void(int64_t)>& advance, size_t longest)
      : file_(file), advance_(advance), longest_(longest) {}

  std::optional<std::string_view> next() {
    size_t searched = begin_;
    while (true) {
      const std::string_view have(buffer_.data(), end_);
      const size_t newline = have.find('\n', searched);
      if (newline != std::string_view::npos) return take(newline, newline + 1);
      if (end_ - begin_ > longest_) {
        refuse(cat(file_.path().string(), ":", number_ + 1, ": a line of more than ", longest_, " bytes"),
               "one JSON object per line; another kind of file must not end in .jsonl");
      }
      searched = end_ - begin_;  // where the search goes on once fill() has moved the line to the front
      if (!fill()) return end_ > begin_ ? std::optional(take(end_, end_)) : std::nullopt;
    }
  }
  int64_t number() const { return number_; }              // of the last line, from 1
  size_t bytes_waiting() const { return end_ - begin_; }  // read, and not yet given: without next(), of one line

 private:
  std::string_view take(size_t line_end, size_t next_begin) {
    const std::string_view line(buffer_.data() + begin_, line_end - begin_);
    begin_ = next_begin;
    ++number_;
    return line;
  }

  bool fill() {
    std::copy(buffer_.begin() + static_cast<ptrdiff_t>(begin_), buffer_.begin() + static_cast<ptrdiff_t>(end_),
              buffer_.begin());
    end_ -= begin_;
    begin_ = 0;
    if (buffer_.size() < end_ + kChunk) buffer_.resize(std::max(end_ + kChunk, 2 * end_));
    const size_t n = file_.read(std::as_writable_bytes(std::span(buffer_).subspan(end_, kChunk)));
    end_ += n;
    advance_(static_cast<int64_t>(n));
    return n > 0;
  }

  File& file_;
  const std::function<void(int64_t)>& advance_;
  size_t longest_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
  int64_t number_ = 0;
};

}  // namespace

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

std::vector<std::string> json_texts(std::string_view line, std::span<const std::string> keys) {
  TextsUnderKeys handler(keys);
  read_json_object(line, handler);
  std::vector<std::string> texts;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!handler.texts[i]) refuse(cat("no \"", keys[i], "\" in this object"));
    texts.push_back(std::move(*handler.texts[i]));
  }
  return texts;
}

void read_jsonl(File& file, std::span<const std::string> keys, const std::string& wanted,
                const std::function<void(std::span<const std::string>)>& texts,
                const std::function<void(int64_t)>& advance, size_t longest) {
  LineReader lines(file, advance, longest);
  const auto too_large = [&](int64_t number, const char* at_least, size_t bytes) {
    fail(cat(file.path().string(), ":", number, ": a line of ", at_least, bytes, " bytes does not fit into memory"),
         "shorter lines, or more memory (ulimit -v says what this process may have)");
  };
  while (true) {
    std::optional<std::string_view> line;
    try {
      line = lines.next();
    } catch (const std::bad_alloc&) {
      too_large(lines.number() + 1, "more than ", lines.bytes_waiting());
    }
    if (!line) break;
    if (is_blank(*line)) continue;
    std::vector<std::string> found;
    try {
      found = json_texts(*line, keys);
    } catch (const std::bad_alloc&) {
      too_large(lines.number(), "", line->size());
    } catch (const Error& e) {
      refuse(cat(file.path().string(), ":", lines.number(), ": ", e.what()), wanted);
    }
    texts(found);
  }
}

}  // namespace gf
