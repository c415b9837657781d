// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_part.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "io/checkpoint/hdf5_handle.h"
#include "io/files.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr const char* kPartFormat = "gf-checkpoint-part-1";
constexpr int64_t kAlignment = 4096;  // of the values of pieces from this size on

// The values of views, block by block.
class Blocks {
 public:
  explicit Blocks(const TensorSource* source) : source_(source) {}

  // Calls body(bytes) for each block in order; the bytes are those until the next call.
  template <class Body>
  void for_each(const ShardView& view, const Body& body) {
    const auto size = static_cast<int64_t>(size_of(view.dtype));
    for (int64_t begin = view.begin; begin < view.end; begin += kBlockElements) {
      const int64_t end = std::min(view.end, begin + kBlockElements);
      const auto bytes = static_cast<size_t>((end - begin) * size);
      body(std::span<const std::byte>(view.data ? view.data + (begin - view.begin) * size : read(view, begin, end),
                                      bytes));
    }
  }

 private:
  const std::byte* read(const ShardView& view, int64_t begin, int64_t end) {
    GF_CHECK(source_, view.name, " has neither values nor a source");
    buffer_.resize(static_cast<size_t>(end - begin) * size_of(view.dtype));
    const ShardView block{view.name, view.dtype, view.shape, begin, end, buffer_.data()};
    source_->read({&block, 1});
    return buffer_.data();
  }
  const TensorSource* source_;
  std::vector<std::byte> buffer_;
};

std::vector<uint64_t> block_checksums(const ShardView& view, Blocks& values) {
  std::vector<uint64_t> sums;
  values.for_each(view,
                  [&](std::span<const std::byte> bytes) { sums.push_back(XXH3_64bits(bytes.data(), bytes.size())); });
  return sums;
}

// Creates the dataset with its attributes and gives the offset of its values, which it does not write.
int64_t create_piece(const Hdf5Use& use, hid_t file, const ShardView& view, Blocks& values) {
  const Piece piece{view.name, view.dtype, view.shape, view.begin, view.end, 0, block_checksums(view, values)};
  const std::string doing = cat("create ", piece_path(piece));
  create_groups_above(use, file, piece_path(piece));
  const Hdf5Handle layout = use.hold(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, doing);
  use.check(H5Pset_obj_track_times(layout, false), doing);  // the same state gives the same bytes
  use.check(H5Pset_layout(layout, H5D_CONTIGUOUS), doing);
  use.check(H5Pset_alloc_time(layout, H5D_ALLOC_TIME_EARLY), doing);
  use.check(H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER), doing);
  const Hdf5Handle space = make_space(use, std::vector{view.end - view.begin});
  const Hdf5Handle dataset = use.hold(
      H5Dcreate2(file, piece_path(piece).c_str(), stored_type(view.dtype), space, H5P_DEFAULT, layout, H5P_DEFAULT),
      H5Dclose, doing);
  write_attribute(use, dataset, "begin", view.begin);
  write_attribute(use, dataset, "shape", view.shape.dims());
  write_attribute(use, dataset, "xxh3_64", std::span<const uint64_t>(piece.xxh3));
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF) fail(cat("HDF5 gave ", piece_path(piece), " in ", use.file().string(), " no place"));
  return static_cast<int64_t>(offset);
}

// Where the values of each view go in the file that `layout` becomes.
std::vector<int64_t> lay_out(const fs::path& path, const File& layout, std::span<const ShardView> views,
                             Blocks& values) {
  const Hdf5Use use(path);
  const Hdf5Handle access = make_memory_access(use);
  use.check(H5Pset_alignment(access, kAlignment, kAlignment), "set the alignment");
  const Hdf5Handle creation = make_file_creation(use);
  Hdf5Handle file =
      use.hold(H5Fcreate(layout.path().c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose, "create the file");
  write_attribute(use, file, "format", kPartFormat);
  std::vector<int64_t> offsets;
  for (const ShardView& view : views)
    offsets.push_back(view.begin < view.end ? create_piece(use, file, view, values) : 0);
  use.check(file.close(), "close the file");
  return offsets;
}

Piece read_piece(const Hdf5Use& use, hid_t file, const std::string& path) {
  const Hdf5Handle dataset = use.hold(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose, "open " + path);
  const auto dtype = element_type(use, dataset);
  const std::vector<int64_t> dims = dims_of(use, dataset);
  const haddr_t offset = H5Dget_offset(dataset);
  if (!dtype || dims.size() != 1 || offset == HADDR_UNDEF) fail(cat(use.file().string(), ": ", path, " is no piece"));
  const int64_t begin = read_integer(use, dataset, "begin");
  return {path.substr(0, path.rfind('@')),
          *dtype,
          Shape(read_integers(use, dataset, "shape")),
          begin,
          begin + dims[0],
          static_cast<int64_t>(offset),
          read_hashes(use, dataset, "xxh3_64")};
}

Bytes place_of(const Piece& piece) {
  return {piece.offset, piece.offset + (piece.end - piece.begin) * static_cast<int64_t>(size_of(piece.dtype))};
}

uint64_t checksum_of_rest(const File& file, const std::vector<Piece>& pieces) {
  std::vector<Bytes> values;
  for (const Piece& piece : pieces) values.push_back(place_of(piece));
  std::ranges::sort(values, {}, &Bytes::begin);
  if (!values.empty() && file.size() < values.back().end)
    fail(cat(file.path().string(), " has ", file.size(), " bytes, and its values end at ", values.back().end));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::vector<std::byte> bytes;
  for (const auto& [begin, end] : bytes_around(values, file.size())) {
    bytes.resize(static_cast<size_t>(end - begin));
    file.read_at(bytes, begin);
    XXH3_64bits_update(state.get(), bytes.data(), bytes.size());
  }
  return XXH3_64bits_digest(state.get());
}

// More than the file can have: its values, and for each piece a header, a link and a gap.
int64_t largest_size(std::span<const ShardView> views) {
  int64_t bytes = 1 << 16;
  for (const ShardView& v : views) {
    const int64_t elements = v.end - v.begin;
    bytes += elements * static_cast<int64_t>(size_of(v.dtype)) + 8 * (elements / kBlockElements) + 4 * kAlignment;
  }
  return bytes;
}

}  // namespace

std::string piece_path(const Piece& piece) {
  return cat(piece.name, "@", piece.begin);
}

std::vector<Bytes> bytes_around(std::span<const Bytes> values, int64_t size) {
  std::vector<Bytes> rest;
  int64_t at = 0;
  for (const auto& [begin, end] : values) {
    if (at < begin) rest.push_back({at, begin});
    at = std::max(at, end);
  }
  if (at < size) rest.push_back({at, size});
  return rest;
}

void write_part(const fs::path& path, std::span<const ShardView> views, HangWatch* watch, const TensorSource* source) {
  const HangWatch::Doing doing(watch, cat("writing ", path.string()));
  check_file_size_limit(path, largest_size(views));
  const File layout = File::in_memory();
  Blocks values(source);
  const std::vector<int64_t> offsets = lay_out(path, layout, views, values);
  File file = File::create(path);
  file.reserve(layout.size());
  std::vector<Bytes> places;
  for (size_t i = 0; i < views.size(); ++i) {
    const int64_t bytes = views[i].bytes();
    if (bytes == 0) continue;
    const HangWatch::Doing piece(watch, views[i].name);
    int64_t at = offsets[i];
    values.for_each(views[i], [&](std::span<const std::byte> block) {
      file.write_at(block, at);
      at += static_cast<int64_t>(block.size());
    });
    places.push_back({offsets[i], offsets[i] + bytes});
  }
  std::ranges::sort(places, {}, &Bytes::begin);
  std::vector<std::byte> bytes;
  for (const auto& [begin, end] : bytes_around(places, layout.size())) {
    bytes.resize(static_cast<size_t>(end - begin));
    layout.read_at(bytes, begin);
    file.write_at(bytes, begin);
  }
  file.sync();
  file.close();
}

PartFile read_part(const fs::path& path) {
  std::vector<Piece> pieces;
  {
    const Hdf5Use use(path);
    const Hdf5Handle access = make_access(use);
    const Hdf5Handle file = use.hold(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose, "open the file");
    for (const std::string& name : dataset_paths(use, file)) pieces.push_back(read_piece(use, file, name));
  }
  const File file = File::open(path);
  const uint64_t rest = checksum_of_rest(file, pieces);
  return {file.size(), rest, std::move(pieces)};
}

}  // namespace gf
