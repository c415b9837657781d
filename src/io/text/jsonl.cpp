// SPDX-License-Identifier: Apache-2.0
#include "io/text/jsonl.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "base/error.h"

namespace gf {
namespace {

constexpr size_t kChunk = size_t{4} << 20;

using json = nlohmann::json;

// Takes events of the parser instead of building the object, which for a line of small numbers would need many times
// the line's memory.
class TextsUnderKeys final : public nlohmann::json_sax<json> {
 public:
  explicit TextsUnderKeys(std::span<const std::string> keys) : texts(keys.size()), keys_(keys) {}
  std::vector<std::optional<std::string>> texts;

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("binary"); }
  bool string(string_t& s) override {
    if (depth_ == 1 && wanted_ < keys_.size()) {
      texts[wanted_] = std::move(s);  // of several under one key the last counts, as in Python
      return true;
    }
    return value("text");
  }
  bool start_object(size_t) override { return value("an object"), ++depth_, true; }
  bool start_array(size_t) override { return value("a list"), ++depth_, true; }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool key(string_t& name) override {
    if (depth_ == 1) wanted_ = static_cast<size_t>(std::ranges::find(keys_, name) - keys_.begin());
    return true;
  }
  bool parse_error(size_t, const std::string&, const json::exception& e) override {
    const std::string_view what = e.what();  // [json.exception.parse_error.101] parse error at line 1, column 5: ...
    const size_t place = what.find("column");
    throw std::runtime_error("no JSON: " + std::string(what.substr(place == std::string_view::npos ? 0 : place)));
  }

 private:
  bool value(const char* kind) {
    if (depth_ == 0 && kind != std::string_view("an object")) {
      throw std::runtime_error(std::string("a JSON object is wanted, and this is ") + kind);
    }
    if (depth_ == 1 && wanted_ < keys_.size())
      throw std::runtime_error("text is wanted under \"" + keys_[wanted_] + "\", and there is " + kind);
    return true;
  }

  std::span<const std::string> keys_;
  int64_t depth_ = 0;
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
  json::sax_parse(line.begin(), line.end(), &handler);
  std::vector<std::string> texts;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!handler.texts[i]) throw std::runtime_error("no \"" + keys[i] + "\" in this object");
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
    } catch (const std::runtime_error& e) {
      refuse(cat(file.path().string(), ":", lines.number(), ": ", e.what()), wanted);
    }
    texts(found);
  }
}

}  // namespace gf
