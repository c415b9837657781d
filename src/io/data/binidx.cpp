// SPDX-License-Identifier: Apache-2.0
#include "io/data/binidx.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <limits>
#include <vector>

#include "base/error.h"
#include "io/data/binidx_format.h"
#include "io/data/read_all.h"

namespace gf {
namespace {

constexpr int64_t kHeader = sizeof(IdxHeader);
constexpr int64_t kInt32Limit = int64_t{1} << 31;  // no int32 is as large

File open_part(const std::string& prefix, const char* part) {
  const bool too_long = prefix.ends_with(".bin") || prefix.ends_with(".idx");
  return File::open(prefix + part,
                    too_long ? "the name without its ending: " + prefix.substr(0, prefix.size() - 4)
                             : "data is given as PREFIX of PREFIX.idx and PREFIX.bin; gf data tokenize makes them");
}

template <class T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

template <class T>
T value_at(const File& file, int64_t offset) {
  T value{};
  read_all(file, offset, bytes_of(value));
  return value;
}

// Calls body(first, values) for all of the `count` numbers at `offset`, some at a time.
template <class T, class Body>
void for_pieces(const File& file, int64_t offset, int64_t count, Body&& body) {
  std::vector<T> piece(std::min<int64_t>(count, 1 << 16));
  for (int64_t first = 0; first < count; first += static_cast<int64_t>(piece.size())) {
    const std::span values(piece.data(), std::min<int64_t>(count - first, static_cast<int64_t>(piece.size())));
    read_all(file, offset + first * static_cast<int64_t>(sizeof(T)), std::as_writable_bytes(values));
    body(first, std::span<const T>(values));
  }
}

// The position of the first value outside [0, limit), or the number of values.
template <class T>
size_t widen(std::span<const T> values, uint64_t limit, int32_t* out) {
  bool bad = false;
  for (size_t i = 0; i < values.size(); ++i) {
    bad |= static_cast<uint64_t>(static_cast<int64_t>(values[i])) >= limit;  // a negative one becomes huge
    out[i] = static_cast<int32_t>(values[i]);
  }
  if (!bad) return values.size();
  const auto outside = [&](T v) { return static_cast<uint64_t>(static_cast<int64_t>(v)) >= limit; };
  return static_cast<size_t>(std::ranges::find_if(values, outside) - values.begin());
}

template <class T>
void read_tokens(const File& bin, int64_t begin, std::span<int32_t> out, int64_t limit) {
  std::array<T, 8192> buffer;
  for (size_t done = 0; done < out.size(); done += buffer.size()) {
    const std::span piece(buffer.data(), std::min(out.size() - done, buffer.size()));
    const int64_t at = begin + static_cast<int64_t>(done);
    read_all(bin, at * static_cast<int64_t>(sizeof(T)), std::as_writable_bytes(piece));
    const size_t bad = widen(std::span<const T>(piece), static_cast<uint64_t>(limit), out.data() + done);
    if (bad < piece.size()) {
      refuse(cat(bin.path().string(), ": token ", static_cast<int64_t>(piece[bad]), " at position ",
                 at + static_cast<int64_t>(bad), " is not one of a vocabulary of ", limit),
             "data tokenized with the model's vocabulary, or a model.vocab_size that covers it");
    }
  }
}

[[noreturn]] void refuse_index(const File& idx, const std::string& what) {
  refuse(idx.path().string() + ": " + what,
         "the file is damaged, cut short or of another kind; make it again or fetch it again");
}

}  // namespace

BinIdx::BinIdx(const std::string& prefix) : BinIdx(prefix, open_part(prefix, ".idx")) {}

BinIdx::BinIdx(const std::string& prefix, const File& idx) : prefix_(prefix), bin_(open_part(prefix, ".bin")) {
  read_header(idx);
  check_ends(idx);
}

void BinIdx::read_header(const File& idx) {
  const int64_t size = idx.size();
  if (size < kHeader) refuse_index(idx, cat(size, " bytes, and the header alone takes ", kHeader));
  const auto header = value_at<IdxHeader>(idx, 0);
  if (header.magic != kIdxMagic) refuse_index(idx, "does not begin with MMIDIDX");
  const uint64_t version = header.version;  // copies: what is packed has no address to refer to
  const uint8_t code = header.type;
  if (version != kIdxVersion) refuse_index(idx, cat("version ", version, ", and this program reads ", kIdxVersion));
  const auto* type = std::ranges::find(kTokenTypes, code, &TokenType::code);
  if (type == std::end(kTokenTypes)) {
    refuse_index(idx, cat("dtype ", int{code}, ", and tokens have one of the integer dtypes 1, 2, 3, 4, 5, 8"));
  }
  type_ = *type;

  // Each count is held against the file before it is multiplied, so that nothing can overflow.
  const uint64_t sequences = header.sequences, marks = header.document_marks;
  const auto rest = static_cast<uint64_t>(size - kHeader);
  if (sequences > rest / 12 || marks > rest / 8 || 12 * sequences + 8 * marks != rest) {
    refuse_index(idx, cat(size, " bytes do not fit its ", sequences, " sequences and ", marks, " document marks"));
  }
  sequences_ = static_cast<int64_t>(sequences);
  documents_ = std::max<int64_t>(0, static_cast<int64_t>(marks) - 1);

  const int64_t bytes = bin_.size();
  if (bytes % type_.size != 0) {
    refuse(cat(bin_.path().string(), ": ", bytes, " bytes is no whole number of ", type_.name, " tokens of ",
               type_.size, " bytes"),
           "the file is cut short or belongs to another .idx");
  }
  tokens_ = bytes / type_.size;
}

// That the first and the last sequence lie where the .bin begins and ends.
void BinIdx::check_ends(const File& idx) const {
  const int64_t bytes = bin_.size();
  int64_t end = 0;
  if (sequences_ > 0) {
    const int64_t offsets = kHeader + 4 * sequences_;
    const auto length = value_at<int32_t>(idx, offsets - 4);
    const auto first = value_at<int64_t>(idx, offsets);
    const auto last = value_at<int64_t>(idx, offsets + 8 * (sequences_ - 1));
    if (first != 0) refuse_index(idx, cat("the first sequence begins at byte ", first, ", not 0"));
    if (length < 0 || last < 0) refuse_index(idx, cat("the last sequence has ", length, " tokens from byte ", last));
    if (last > std::numeric_limits<int64_t>::max() - length * type_.size) {
      refuse_index(idx, cat("the last sequence begins at byte ", last));
    }
    end = last + length * type_.size;
  }
  if (end != bytes) {
    refuse(cat(bin_.path().string(), " has ", bytes, " bytes, and ", idx.path().string(), " describes ", end),
           "the two files belong together and to nothing else; one is cut short or from another data set");
  }
}

void BinIdx::read(int64_t begin, std::span<int32_t> out) const {
  read(begin, out, kInt32Limit);
}

void BinIdx::read(int64_t begin, std::span<int32_t> out, int64_t vocab_size) const {
  const auto count = static_cast<int64_t>(out.size());
  GF_CHECK(begin >= 0 && begin <= tokens_ && count <= tokens_ - begin, prefix_, ": ", count, " tokens from ", begin,
           ", and there are ", tokens_);
  const int64_t limit = std::min(vocab_size, kInt32Limit);
  switch (type_.code) {
    case 1:
      return read_tokens<uint8_t>(bin_, begin, out, limit);
    case 2:
      return read_tokens<int8_t>(bin_, begin, out, limit);
    case 3:
      return read_tokens<int16_t>(bin_, begin, out, limit);
    case 4:
      return read_tokens<int32_t>(bin_, begin, out, limit);
    case 5:
      return read_tokens<int64_t>(bin_, begin, out, limit);
    case 8:
      return read_tokens<uint16_t>(bin_, begin, out, limit);
  }
  GF_CHECK(false, "token type ", int{type_.code});
}

uint64_t BinIdx::fingerprint() const {
  constexpr int64_t kEnd = 4096;
  const int64_t bytes = tokens_ * type_.size, end = std::min(bytes, kEnd);
  std::vector<std::byte> seen(sizeof bytes + 1 + static_cast<size_t>(2 * end));
  std::memcpy(seen.data(), &bytes, sizeof bytes);
  seen[sizeof bytes] = static_cast<std::byte>(type_.code);
  const auto ends = std::span(seen).subspan(sizeof bytes + 1);
  read_all(bin_, 0, ends.first(static_cast<size_t>(end)));
  read_all(bin_, bytes - end, ends.last(static_cast<size_t>(end)));
  return XXH3_64bits(seen.data(), seen.size());
}

void BinIdx::verify() const {
  const File idx = open_part(prefix_, ".idx");
  verify_sequences(idx);
  verify_documents(idx);
}

void BinIdx::verify_sequences(const File& idx) const {
  constexpr int64_t kPiece = 1 << 16;
  std::vector<int32_t> lengths(kPiece);
  int64_t expected = 0;
  for_pieces<int64_t>(idx, kHeader + 4 * sequences_, sequences_, [&](int64_t first, std::span<const int64_t> offsets) {
    read_all(idx, kHeader + 4 * first, std::as_writable_bytes(std::span(lengths.data(), offsets.size())));
    for (size_t i = 0; i < offsets.size(); ++i) {
      const int64_t sequence = first + static_cast<int64_t>(i);
      if (lengths[i] < 0) refuse_index(idx, cat("sequence ", sequence, " has ", lengths[i], " tokens"));
      if (offsets[i] != expected) {
        refuse_index(
            idx, cat("sequence ", sequence, " begins at byte ", offsets[i], ", and the one before ends at ", expected));
      }
      expected += lengths[i] * type_.size;  // below sequences * 2^34, and the file bounds the sequences
    }
  });
}

void BinIdx::verify_documents(const File& idx) const {
  int64_t last = 0;
  const int64_t marks = documents_ + (idx.size() > kHeader + 12 * sequences_ ? 1 : 0);
  for_pieces<int64_t>(idx, kHeader + 12 * sequences_, marks, [&](int64_t first, std::span<const int64_t> values) {
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t mark = first + static_cast<int64_t>(i);
      if (mark == 0 ? values[i] != 0 : values[i] < last || values[i] > sequences_) {
        refuse_index(idx, cat("document ", mark, " begins at sequence ", values[i], ", the one before at ", last,
                              ", of ", sequences_));
      }
      last = values[i];
    }
  });
}

}  // namespace gf
