// SPDX-License-Identifier: Apache-2.0
// One rank's part of a checkpoint: an HDF5 file with one dataset of one dimension per piece, at <tensor>@<first
// element>, with its place in the whole tensor and a checksum per block as attributes.
// HDF5 lays the file out in memory, with holes for the values; all is written by us, so that every error is seen with
// its cause and nothing stands between memory and disk.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/tensor_source.h"
#include "io/files.h"
#include "parallel/hang_watch.h"
#include "tensor/shard_view.h"

namespace gf {

// A checksum covers this many elements of a piece (the last one of a piece: what is left), so that a rank which needs a
// small range of a large piece can verify it without reading all of it.
inline constexpr int64_t kBlockElements = int64_t{1} << 18;

struct Piece {
  std::string name;
  DType dtype;
  Shape shape;                 // of the whole tensor
  int64_t begin, end;          // elements of the whole
  int64_t offset;              // of the first value, in bytes from the start of the part file
  std::vector<uint64_t> xxh3;  // XXH3-64 of each block
};

struct PartFile {
  int64_t bytes;       // size of the file
  uint64_t rest_xxh3;  // XXH3-64 of all bytes outside the pieces, in order
  std::vector<Piece> pieces;
};

struct Bytes {
  int64_t begin, end;
};
// What is left of a file of `size` bytes around `values`, which are sorted, do not overlap and lie within.
std::vector<Bytes> bytes_around(std::span<const Bytes> values, int64_t size);

std::string piece_path(const Piece&);  // of its dataset in the part file

// Writes, reads back and syncs the file bit by bit, so that another thread may go on where one left off, and each bit
// is a sign of life to the watch. Views without elements are left out. Values of views without data are read from the
// source as they are needed, a block at a time.
class PartWriter {
 public:
  PartWriter(std::filesystem::path, std::vector<ShardView>, HangWatch* = nullptr, const TensorSource* = nullptr);
  ~PartWriter();
  bool proceed();  // does some milliseconds of work -> whether there is more
  void write() {
    while (proceed()) {}
  }

 private:
  enum class Phase { checksums, layout, values, rest, look_back, write_back, done };
  bool advance();                     // to more values in the order of the views; false: there are none
  std::span<const std::byte> next();  // these; none: all have been given
  std::optional<uint64_t> checksum_with(std::span<const std::byte>);  // of a block that they complete
  void add_checksum();
  void lay_out();
  void write_values();
  int64_t place() const;  // in the file, of the values that advance() came to
  void write_rest();
  void look_back();
  void write_back();
  void for_rest(const std::function<void(std::span<const std::byte>, int64_t begin)>&) const;

  const std::filesystem::path path_;
  std::vector<ShardView> views_;  // that have elements
  HangWatch* const watch_;
  const TensorSource* const source_;
  Phase phase_ = Phase::checksums;
  size_t view_ = 0;                // that advance() is at
  int64_t begin_ = 0, given_ = 0;  // elements of it: the values that it came to
  std::vector<std::byte> read_;
  struct Hash;
  std::unique_ptr<Hash> hash_;  // of the block begun
  std::vector<std::vector<uint64_t>> checksums_;
  std::vector<int64_t> offsets_;
  std::optional<File> layout_, file_;
  int64_t written_back_ = 0;  // bytes of the file
};

// What a part file that was just written holds; fails where it is shorter than its pieces.
PartFile read_part(const std::filesystem::path&);

}  // namespace gf
