// SPDX-License-Identifier: Apache-2.0
#include "io/data/loss_mask.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "io/data/read_all.h"

namespace gf {
namespace {

constexpr const char* kHint = "gf data tokenize --prompt-key KEY --answer-key KEY makes data with its mask";

}  // namespace

LossMask::LossMask(const BinIdx& data) : file_(File::open(path_of(data.prefix()), kHint)), tokens_(data.tokens()) {
  if (file_.size() != tokens_)
    refuse(cat(file_.path().string(), " has ", file_.size(), " bytes, and ", data.prefix(), ".bin has ", tokens_,
               " tokens: a mask has one byte a token"),
           "the mask that was made with this data");
}

void LossMask::read(int64_t begin, std::span<uint8_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  GF_CHECK(begin >= 0 && begin <= tokens_ && count <= tokens_ - begin, file_.path().string(), ": ", count,
           " bytes from ", begin, ", and there are ", tokens_);
  read_all(file_, begin, std::as_writable_bytes(out));
  const auto bad = std::ranges::find_if(out, [](uint8_t mark) { return mark > 1; });
  if (bad != out.end())
    refuse(cat(file_.path().string(), ": byte ", int{*bad}, " at position ", begin + (bad - out.begin()),
               ", and a mask has 0 and 1"),
           kHint);
}

int64_t LossMask::count(int64_t begin, int64_t end) const {
  std::vector<uint8_t> piece(static_cast<size_t>(std::min<int64_t>(end - begin, 1 << 20)));
  int64_t marked = 0;
  while (begin < end) {
    const auto part = std::span(piece).first(static_cast<size_t>(std::min(end - begin, std::ssize(piece))));
    read(begin, part);
    marked += std::ranges::count(part, uint8_t{1});
    begin += std::ssize(part);
  }
  return marked;
}

uint64_t LossMask::fingerprint() const {
  constexpr int64_t kEnd = 4096;
  const int64_t end = std::min(tokens_, kEnd);
  std::vector<uint8_t> seen(sizeof tokens_ + static_cast<size_t>(2 * end));
  std::memcpy(seen.data(), &tokens_, sizeof tokens_);
  const auto ends = std::span(seen).subspan(sizeof tokens_);
  read(0, ends.first(static_cast<size_t>(end)));
  read(tokens_ - end, ends.last(static_cast<size_t>(end)));
  return XXH3_64bits(seen.data(), seen.size());
}

}  // namespace gf
