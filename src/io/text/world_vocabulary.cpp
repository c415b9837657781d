// SPDX-License-Identifier: Apache-2.0
#include "io/text/world_vocabulary.h"

#include <algorithm>
#include <bitset>
#include <charconv>
#include <unordered_map>

#include "base/error.h"
#include "io/files.h"
#include "io/text/python_literal.h"

namespace gf {
namespace {

constexpr int64_t kLargestFile = int64_t{64} << 20;  // the World file has 1 MB
constexpr size_t kChunk = size_t{1} << 20;
constexpr int64_t kSizeMultiple = 64;

std::string whole_file(const std::string& path) {
  File file = File::open_stream(path, "--vocab byte, or the path of an RWKV World vocabulary file");
  if (file.size() > kLargestFile) refuse(cat(path, " has ", file.size(), " bytes: no vocabulary"));
  std::string text;
  for (size_t n = 1; n > 0;) {  // a pipe is taken as well, and tells no size
    const size_t before = text.size();
    text.resize(before + kChunk);
    n = file.read(std::as_writable_bytes(std::span(text).subspan(before)));
    text.resize(before + n);
    if (std::ssize(text) > kLargestFile) refuse(cat(path, " has more than ", kLargestFile, " bytes: no vocabulary"));
  }
  return text;
}

template <class T>
bool parse_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

struct Line {
  int64_t id;
  std::string bytes;
};

// Throws LiteralError with what is wrong.
Line parse_line(std::string_view line) {
  const size_t first = line.find(' '), last = line.rfind(' ');
  int64_t id = 0, length = 0;
  if (first == std::string_view::npos || first == last || !parse_number(line.substr(0, first), id) ||
      !parse_number(line.substr(last + 1), length)) {
    throw LiteralError("not of the form: number 'token' length");
  }
  if (id < 1 || id > ByteTrie::kMaxValue) {
    throw LiteralError(cat("the token number is ", id, ", and must lie from 1 to ", ByteTrie::kMaxValue,
                           id == 0 ? " (0 ends a document)" : ""));
  }
  std::string bytes = python_literal(line.substr(first + 1, last - first - 1));
  if (static_cast<int64_t>(bytes.size()) != length) {
    throw LiteralError(cat("the token has ", bytes.size(), " bytes, and the line says ", length));
  }
  if (bytes.empty()) throw LiteralError("the token has no bytes");
  return {id, std::move(bytes)};
}

void check_single_bytes(const std::string& path, const std::unordered_map<std::string, int64_t>& line_of_bytes) {
  for (int byte = 0; byte < 256; ++byte) {
    if (line_of_bytes.contains(std::string(1, static_cast<char>(byte)))) continue;
    refuse(cat(path, ": no token for the single byte ", byte, ", so that not every text could be encoded"),
           "a vocabulary with all 256 single bytes");
  }
}

}  // namespace

WorldVocabulary::Entries WorldVocabulary::load(const std::string& path) {
  const std::string text = whole_file(path);
  Entries entries;
  std::unordered_map<std::string, int64_t> line_of_bytes;
  std::unordered_map<int64_t, int64_t> line_of_id;
  int64_t number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    try {
      auto [id, bytes] = parse_line(line);
      if (const auto [at, fresh] = line_of_id.emplace(id, number); !fresh) {
        throw LiteralError(cat("token number ", id, " stands in line ", at->second, " already"));
      }
      if (const auto [at, fresh] = line_of_bytes.emplace(bytes, number); !fresh) {
        throw LiteralError(cat("the bytes of token ", id, " stand in line ", at->second, " already"));
      }
      entries.emplace_back(std::move(bytes), static_cast<int32_t>(id));
    } catch (const LiteralError& e) {
      refuse(cat(path, ":", number, ": ", e.what()), "an RWKV World vocabulary file, complete and unchanged");
    }
  }
  check_single_bytes(path, line_of_bytes);
  std::ranges::sort(entries);
  return entries;
}

WorldVocabulary::WorldVocabulary(const std::string& path) : WorldVocabulary(load(path)) {}

WorldVocabulary::WorldVocabulary(const Entries& sorted) : trie_(sorted) {
  int32_t largest = 0;
  for (const auto& [bytes, id] : sorted) largest = std::max(largest, id);
  const int64_t size = (largest + kSizeMultiple) / kSizeMultiple * kSizeMultiple;
  std::vector<const std::string*> by_id(static_cast<size_t>(size));
  for (const auto& [bytes, id] : sorted) by_id[id] = &bytes;
  for (const std::string* bytes : by_id) {
    begins_.push_back(static_cast<uint32_t>(text_.size()));
    if (!bytes) continue;
    text_ += *bytes;
    longest_ = std::max(longest_, bytes->size());
  }
  begins_.push_back(static_cast<uint32_t>(text_.size()));
}

size_t WorldVocabulary::encode_part(std::string_view bytes, bool last, std::vector<int32_t>& out) const {
  const auto* const begin = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto* const end = begin + bytes.size();
  // Before the last part a token is certain only where the longest one would still have fitted.
  const auto* const stop = last ? end : begin + (bytes.size() - std::min(bytes.size(), longest_ - 1));
  const auto* at = begin;
  std::array<int32_t, 4096> found;  // filled first: out.push_back() would cost as much as the match
  while (at < stop) {
    size_t n = 0;
    while (at < stop && n < found.size()) {
      const ByteTrie::Match match = trie_.longest(at, end);
      found[n++] = match.value;
      at = match.end;
    }
    out.insert(out.end(), found.begin(), found.begin() + static_cast<ptrdiff_t>(n));
  }
  return static_cast<size_t>(at - begin);
}

}  // namespace gf
