// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_part.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "io/checkpoint/hdf5_handle.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr const char* kPartFormat = "gf-checkpoint-part-1";
constexpr int64_t kAlignment = 4096;  // of the values of pieces from this size on

// Creates the dataset with its attributes and gives the offset of its values, which it does not write.
int64_t create_piece(const Hdf5Use& use, hid_t file, const ShardView& view, const std::vector<uint64_t>& checksums) {
  const Piece piece{view.name, view.dtype, view.shape, view.begin, view.end, 0, checksums};
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

struct PartWriter::Hash {
  Hash() : state(XXH3_createState(), XXH3_freeState) { XXH3_64bits_reset(state.get()); }
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state;
};

PartWriter::PartWriter(fs::path path, std::vector<ShardView> views, HangWatch* watch, const TensorSource* source)
    : path_(std::move(path)), views_(std::move(views)), watch_(watch), source_(source) {
  std::erase_if(views_, [](const ShardView& v) { return v.begin == v.end; });
  checksums_.resize(views_.size());
}

PartWriter::~PartWriter() = default;

bool PartWriter::proceed() {
  const HangWatch::Doing doing(watch_, cat("writing ", path_.string()));
  switch (phase_) {
    case Phase::checksums:
      add_checksum();
      break;
    case Phase::layout:
      lay_out();
      break;
    case Phase::values:
      write_values();
      break;
    case Phase::rest:
      write_rest();
      break;
    case Phase::look_back:
      look_back();
      break;
    case Phase::write_back:
      write_back();
      break;
    case Phase::done:
      break;
  }
  return phase_ != Phase::done;
}

// Those in memory a mebibyte at a time; those of a source by blocks, since it verifies whole ones.
bool PartWriter::advance() {
  if (view_ < views_.size() && given_ == views_[view_].end - views_[view_].begin) ++view_, given_ = 0;
  if (view_ == views_.size()) return false;
  const ShardView& v = views_[view_];
  constexpr int64_t kSome = int64_t{1} << 18;
  static_assert(kBlockElements % kSome == 0);
  begin_ = given_;
  given_ += std::min(v.end - v.begin - given_, v.data ? kSome : kBlockElements);
  read_.resize(v.data && phase_ != Phase::look_back ? 0 : (given_ - begin_) * size_of(v.dtype));
  return true;
}

std::span<const std::byte> PartWriter::next() {
  if (!advance()) return {};
  const ShardView& v = views_[view_];
  const auto size = static_cast<int64_t>(size_of(v.dtype));
  if (v.data) return {v.data + begin_ * size, static_cast<size_t>((given_ - begin_) * size)};
  GF_CHECK(source_, v.name, " has neither values nor a source");
  const ShardView block{v.name, v.dtype, v.shape, v.begin + begin_, v.begin + given_, read_.data()};
  source_->read({&block, 1});
  return read_;
}

std::optional<uint64_t> PartWriter::checksum_with(std::span<const std::byte> bytes) {
  if (!hash_) hash_ = std::make_unique<Hash>();
  XXH3_64bits_update(hash_->state.get(), bytes.data(), bytes.size());
  if (given_ % kBlockElements != 0 && given_ < views_[view_].end - views_[view_].begin) return std::nullopt;
  const uint64_t checksum = XXH3_64bits_digest(hash_->state.get());
  hash_.reset();
  return checksum;
}

void PartWriter::add_checksum() {
  const auto bytes = next();
  if (bytes.empty())
    phase_ = Phase::layout;
  else if (const auto checksum = checksum_with(bytes))
    checksums_[view_].push_back(*checksum);
}

// HDF5 says where the values go in the file that this layout becomes.
void PartWriter::lay_out() {
  check_file_size_limit(path_, largest_size(views_));
  layout_.emplace(File::in_memory());
  const Hdf5Use use(path_);
  const Hdf5Handle access = make_memory_access(use);
  use.check(H5Pset_alignment(access, kAlignment, kAlignment), "set the alignment");
  const Hdf5Handle creation = make_file_creation(use);
  Hdf5Handle file =
      use.hold(H5Fcreate(layout_->path().c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose, "create the file");
  write_attribute(use, file, "format", kPartFormat);
  for (size_t i = 0; i < views_.size(); ++i) offsets_.push_back(create_piece(use, file, views_[i], checksums_[i]));
  use.check(file.close(), "close the file");
  file_.emplace(File::create(path_));
  file_->reserve(layout_->size());
  view_ = 0, given_ = 0;
  phase_ = Phase::values;
}

int64_t PartWriter::place() const {
  return offsets_[view_] + begin_ * static_cast<int64_t>(size_of(views_[view_].dtype));
}

void PartWriter::write_values() {
  const auto bytes = next();
  if (bytes.empty()) {
    phase_ = Phase::rest;
    return;
  }
  const HangWatch::Doing piece(watch_, views_[view_].name);
  file_->write_at(bytes, place());
}

void PartWriter::for_rest(const std::function<void(std::span<const std::byte>, int64_t begin)>& body) const {
  std::vector<Bytes> places;
  for (size_t i = 0; i < views_.size(); ++i) places.push_back({offsets_[i], offsets_[i] + views_[i].bytes()});
  std::ranges::sort(places, {}, &Bytes::begin);
  std::vector<std::byte> bytes;
  for (const auto& [begin, end] : bytes_around(places, layout_->size())) {
    bytes.resize(static_cast<size_t>(end - begin));
    layout_->read_at(bytes, begin);
    body(bytes, begin);
  }
}

void PartWriter::write_rest() {
  for_rest([&](std::span<const std::byte> bytes, int64_t begin) { file_->write_at(bytes, begin); });
  view_ = 0, given_ = 0;
  phase_ = Phase::look_back;
}

// As the system has it by now, in memory, while the disk is still at it: nothing more has to be read from there.
void PartWriter::look_back() {
  const auto differs = [&](const std::string& what) {
    fail(cat(path_.string(), " does not hold ", what, " as written"), "another disk; dmesg may say what is wrong");
  };
  if (advance()) {
    file_->read_at(read_, place());
    const auto checksum = checksum_with(read_);
    const auto block = static_cast<size_t>(begin_ / kBlockElements);
    if (checksum && *checksum != checksums_[view_][block]) differs(views_[view_].name);
    return;
  }
  for_rest([&](std::span<const std::byte> bytes, int64_t begin) {
    read_.resize(bytes.size());
    file_->read_at(read_, begin);
    if (!std::ranges::equal(read_, bytes)) differs("its own layout");
  });
  phase_ = Phase::write_back;
}

// Some at a time: a large file on a slow disk takes longer than the watch waits for a sign of life, and one sync of all
// would give none.
void PartWriter::write_back() {
  constexpr int64_t kSome = int64_t{8} << 20;
  if (const int64_t begin = written_back_, size = layout_->size(); begin < size) {
    written_back_ = std::min(begin + kSome, size);
    file_->write_back(begin, written_back_);
    return;
  }
  file_->sync();
  file_->close();
  phase_ = Phase::done;
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
