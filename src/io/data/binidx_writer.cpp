// SPDX-License-Identifier: Apache-2.0
#include "io/data/binidx_writer.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "io/data/binidx_format.h"

namespace gf {
namespace {

// Makes the folder that the data set is to lie in.
std::string with_folder(const std::string& prefix) {
  create_folder_durably(std::filesystem::path(prefix).parent_path(), Exit::bad_input);
  return prefix;
}

// Whether PREFIX.mask.bin would be, or is, the tokens of a data set called PREFIX.mask.
bool is_data_of_its_own(const std::string& prefix) {
  return std::filesystem::exists(prefix + ".mask.idx");
}

}  // namespace

BinIdxWriter::BinIdxWriter(const std::string& prefix, int64_t vocab_size, int64_t longest_sequence, Masked masked)
    : prefix_(prefix),
      vocab_size_(vocab_size),
      longest_(longest_sequence),
      type_(vocab_size <= (1 << 16) ? kUint16 : kInt32),
      bin_(with_folder(prefix) + ".bin"),
      idx_(prefix + ".idx"),
      to_bin_(bin_.file()),
      to_idx_(idx_.file()) {
  GF_CHECK(longest_ > 0 && longest_ < (int64_t{1} << 31), longest_, " tokens in a sequence");
  if (masked == Masked::yes && is_data_of_its_own(prefix))
    refuse(LossMask::path_of(prefix) + " belongs to the data set " + prefix + ".mask", "another name");
  output_place(LossMask::path_of(prefix));  // an earlier mask goes, and nothing else does
  if (masked == Masked::yes) mask_ = std::make_unique<MaskFile>(LossMask::path_of(prefix));
  to_idx_.append(IdxHeader{});  // holds the place; the counts come last
}

void BinIdxWriter::append(std::span<const int32_t> tokens, std::span<const uint8_t> marks) {
  GF_CHECK(marks.size() == (mask_ ? tokens.size() : 0), marks.size(), " marks of ", tokens.size(), " tokens");
  if (mask_) mask_->out.append(std::as_bytes(marks));
  marked_ += std::ranges::count(marks, uint8_t{1});
  while (!tokens.empty()) {
    if (length_ == longest_) {
      continued_.push_back(sequences_);
      end_sequence();
    }
    const auto piece = tokens.first(std::min<size_t>(tokens.size(), static_cast<size_t>(longest_ - length_)));
    bool outside = false;
    for (const int32_t token : piece) outside |= static_cast<uint32_t>(token) >= vocab_size_;
    GF_CHECK(!outside, "a token outside a vocabulary of ", vocab_size_);
    if (type_.code == kUint16.code) {
      narrow_.assign(piece.begin(), piece.end());
      to_bin_.append(std::as_bytes(std::span(narrow_)));
    } else {
      to_bin_.append(std::as_bytes(piece));
    }
    length_ += static_cast<int64_t>(piece.size());
    tokens_ += static_cast<int64_t>(piece.size());
    tokens = tokens.subspan(piece.size());
  }
}

void BinIdxWriter::end_sequence() {
  to_idx_.append(static_cast<int32_t>(length_));
  length_ = 0;
  ++sequences_;
}

void BinIdxWriter::end_document() {
  if (length_ == 0) return;
  end_sequence();
  ++documents_;
}

// The lengths are in the file already; the offsets follow from them, read back some at a time.
void BinIdxWriter::write_index() {
  to_idx_.flush();
  std::vector<int32_t> lengths;
  for (int64_t done = 0, offset = 0; done < sequences_; done += static_cast<int64_t>(lengths.size())) {
    lengths.resize(static_cast<size_t>(std::min<int64_t>(sequences_ - done, 1 << 16)));
    idx_.file().read_at(std::as_writable_bytes(std::span(lengths)), static_cast<int64_t>(sizeof(IdxHeader)) + 4 * done);
    for (const int32_t length : lengths) {
      to_idx_.append(offset);
      offset += length * type_.size;
    }
  }
  to_idx_.append(int64_t{0});
  auto continued = continued_.begin();
  for (int64_t sequence = 0; sequence < sequences_; ++sequence) {
    if (continued != continued_.end() && *continued == sequence) {
      ++continued;
    } else {
      to_idx_.append(sequence + 1);
    }
  }
  to_idx_.flush();
  const IdxHeader header{.type = type_.code,
                         .sequences = static_cast<uint64_t>(sequences_),
                         .document_marks = static_cast<uint64_t>(documents_ + 1)};
  idx_.file().write_at(std::as_bytes(std::span(&header, 1)), 0);
}

// Brings all to disk.
void BinIdxWriter::complete() {
  GF_CHECK(!finished_, bin_.path().string(), " finished twice");
  end_document();
  to_bin_.flush();
  write_index();
  bin_.file().sync();
  idx_.file().sync();
  if (mask_) {
    mask_->out.flush();
    mask_->file.file().sync();
  }
  finished_ = true;
}

void BinIdxWriter::finish() {
  BinIdxWriter* const self = this;
  finish_all({&self, 1});
}

// Several files cannot change places at once. Until the last of a data set has, there is no .idx of it, so that nobody
// can take an old one for the new .bin's.
void BinIdxWriter::finish_all(std::span<BinIdxWriter* const> writers) {
  for (BinIdxWriter* const w : writers) w->complete();
  std::vector<std::filesystem::path> old;
  std::vector<PartialFile*> files;
  for (BinIdxWriter* const w : writers) {
    old.push_back(w->idx_.path());
    if (!w->mask_ && !is_data_of_its_own(w->prefix_)) old.emplace_back(LossMask::path_of(w->prefix_));
    files.push_back(&w->bin_);
    if (w->mask_) files.push_back(&w->mask_->file);
    files.push_back(&w->idx_);
  }
  PartialFile::publish_all(files, old);
}

}  // namespace gf
