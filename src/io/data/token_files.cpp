// SPDX-License-Identifier: Apache-2.0
#include "io/data/token_files.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace gf {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 62;

}  // namespace

TokenFiles::TokenFiles(std::span<const std::string> prefixes) : begins_{0} {
  GF_CHECK(!prefixes.empty(), "no token files");
  if (prefixes.size() > 1) allow_open_files(static_cast<int64_t>(prefixes.size()));
  files_.reserve(prefixes.size());
  for (const std::string& prefix : prefixes) {
    const BinIdx& file = files_.emplace_back(prefix);
    if (file.tokens() > kMostTokens - tokens())
      refuse(cat(prefix, " has ", file.tokens(), " tokens, which together with the ", tokens(),
                 " before them are too many to count"));
    begins_.push_back(tokens() + file.tokens());
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

void TokenFiles::read(int64_t begin, std::span<int32_t> out) const {
  read(begin, out, std::numeric_limits<int64_t>::max());
}

void TokenFiles::read(int64_t begin, std::span<int32_t> out, int64_t vocab_size) const {
  const auto count = static_cast<int64_t>(out.size());
  GF_CHECK(begin >= 0 && begin <= tokens() && count <= tokens() - begin, name(), ": ", count, " tokens from ", begin,
           ", and there are ", tokens());
  // The last file that begins at or before it, so that empty ones are passed over.
  auto i = static_cast<size_t>(std::ranges::upper_bound(begins_, begin) - begins_.begin()) - 1;
  while (!out.empty()) {
    const size_t part = static_cast<size_t>(std::min<int64_t>(begins_[i + 1] - begin, std::ssize(out)));
    files_[i].read(begin - begins_[i], out.first(part), vocab_size);
    out = out.subspan(part);
    begin = begins_[++i];
  }
}

void TokenFiles::check_beginnings(int64_t tokens, int64_t vocab_size) const {
  std::vector<int32_t> out(static_cast<size_t>(tokens));
  for (const BinIdx& file : files_)
    file.read(0, std::span(out).first(static_cast<size_t>(std::min(tokens, file.tokens()))), vocab_size);
}

}  // namespace gf
