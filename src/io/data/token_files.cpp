// SPDX-License-Identifier: Apache-2.0
#include "io/data/token_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace gf {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 62;

}  // namespace

TokenFiles::TokenFiles(std::span<const std::string> prefixes, Masked masked) : begins_{0} {
  GF_CHECK(!prefixes.empty(), "no token files");
  const int64_t files_each = masked == Masked::yes ? 2 : 1;
  if (prefixes.size() > 1) allow_open_files(static_cast<int64_t>(prefixes.size()) * files_each);
  files_.reserve(prefixes.size());
  for (const std::string& prefix : prefixes) {
    const BinIdx& file = files_.emplace_back(prefix);
    if (file.tokens() > kMostTokens - tokens())
      refuse(cat(prefix, " has ", file.tokens(), " tokens, which together with the ", tokens(),
                 " before them are too many to count"));
    begins_.push_back(tokens() + file.tokens());
    if (masked == Masked::yes) masks_.emplace_back(file);
  }
}

std::string TokenFiles::name() const {
  return files_.size() == 1 ? files_[0].prefix() : cat(files_[0].prefix(), " and ", files_.size() - 1, " more");
}

int64_t TokenFiles::sequences() const {
  int64_t sum = 0;
  for (const BinIdx& file : files_) sum += file.sequences();
  return sum;
}

int64_t TokenFiles::documents() const {
  int64_t sum = 0;
  for (const BinIdx& file : files_) sum += file.documents();
  return sum;
}

std::string TokenFiles::identity(size_t file) const {
  std::string text = fmt::format("{} tokens, fingerprint {:016x}", files_[file].tokens(), files_[file].fingerprint());
  if (masked()) text += fmt::format(", of the mask {:016x}", masks_[file].fingerprint());
  return text;
}

void TokenFiles::read(int64_t begin, std::span<int32_t> out) const {
  read(begin, out, std::numeric_limits<int64_t>::max());
}

template <class Body>
void TokenFiles::for_parts(int64_t begin, int64_t count, Body&& body) const {
  GF_CHECK(begin >= 0 && begin <= tokens() && count <= tokens() - begin, name(), ": ", count, " tokens from ", begin,
           ", and there are ", tokens());
  // The last file that begins at or before it, so that empty ones are passed over.
  auto i = static_cast<size_t>(std::ranges::upper_bound(begins_, begin) - begins_.begin()) - 1;
  while (count > 0) {
    const int64_t part = std::min(begins_[i + 1] - begin, count);
    body(i, begin - begins_[i], part);
    count -= part;
    begin = begins_[++i];
  }
}

void TokenFiles::read(int64_t begin, std::span<int32_t> out, int64_t vocab_size) const {
  for_parts(begin, std::ssize(out), [&](size_t file, int64_t first, int64_t count) {
    files_[file].read(first, out.first(static_cast<size_t>(count)), vocab_size);
    out = out.subspan(static_cast<size_t>(count));
  });
}

void TokenFiles::read_mask(int64_t begin, std::span<uint8_t> out) const {
  GF_CHECK(masked(), name(), " was opened without its masks");
  for_parts(begin, std::ssize(out), [&](size_t file, int64_t first, int64_t count) {
    masks_[file].read(first, out.first(static_cast<size_t>(count)));
    out = out.subspan(static_cast<size_t>(count));
  });
}

void TokenFiles::check_beginnings(int64_t tokens, int64_t vocab_size) const {
  std::vector<int32_t> out(static_cast<size_t>(tokens));
  for (const BinIdx& file : files_)
    file.read(0, std::span(out).first(static_cast<size_t>(std::min(tokens, file.tokens()))), vocab_size);
}

}  // namespace gf
