// SPDX-License-Identifier: Apache-2.0
// Writing checkpoint.h5 (see checkpoint_index.h).
#include <algorithm>
#include <limits>
#include <map>

#include "base/error.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_index.h"
#include "io/checkpoint/hdf5_handle.h"
#include "io/checkpoint/index_seal.h"
#include "io/files.h"

namespace gf {
namespace {

struct Placed {
  const Piece* piece;
  int64_t part;
};

// A box of a row-major tensor whose elements are contiguous: one row of sizes in each dimension.
struct Box {
  std::vector<hsize_t> start, count;
};

// The elements [begin, end) of a row-major tensor as at most 2 * rank - 1 boxes, in order: the tails of the rows it
// begins in, the whole rows, the heads of the rows it ends in.
std::vector<Box> boxes_of(const Shape& shape, int64_t begin, int64_t end) {
  std::vector<Box> boxes;
  while (begin < end) {
    // The largest row (of the last dimensions) that starts here and does not reach beyond the end.
    int dim = shape.rank() - 1;
    int64_t row = 1;
    while (dim > 0 && begin % (row * shape[dim]) == 0 && begin + row * shape[dim] <= end) row *= shape[dim--];
    // As many of them as there are before the next larger row.
    const int64_t first = begin / row % shape[dim];
    const int64_t rows = std::min((end - begin) / row, shape[dim] - first);
    Box box{std::vector<hsize_t>(shape.rank(), 0), std::vector<hsize_t>(shape.rank(), 1)};
    int64_t index = begin / row;
    for (int d = dim; d >= 0; --d) {
      box.start[d] = static_cast<hsize_t>(index % shape[d]);
      index /= shape[d];
    }
    box.count[dim] = static_cast<hsize_t>(rows);
    for (int d = dim + 1; d < shape.rank(); ++d) box.count[d] = static_cast<hsize_t>(shape[d]);
    boxes.push_back(std::move(box));
    begin += rows * row;
  }
  return boxes;
}

std::map<std::string, std::vector<Placed>> by_tensor(const std::vector<PartFile>& parts) {
  std::map<std::string, std::vector<Placed>> tensors;
  for (size_t part = 0; part < parts.size(); ++part)
    for (const Piece& piece : parts[part].pieces) tensors[piece.name].push_back({&piece, static_cast<int64_t>(part)});
  for (auto& [name, pieces] : tensors) {
    std::ranges::sort(pieces, {}, [](const Placed& p) { return p.piece->begin; });
    const Piece& first = *pieces.front().piece;
    int64_t at = 0;
    for (const auto& [piece, part] : pieces) {
      GF_CHECK(piece->shape == first.shape && piece->dtype == first.dtype, name, " is ", first.shape, " ", first.dtype,
               " on one rank and ", piece->shape, " ", piece->dtype, " on another");
      GF_CHECK(piece->begin == at, "a rank gave ", name, " from element ", piece->begin,
               " on, and the ranks before it up to ", at);
      at = piece->end;
    }
    GF_CHECK(at == first.shape.numel(), "the ranks gave ", at, " elements of ", name, ", which is ", first.shape);
  }
  return tensors;
}

void map_piece(const Hdf5Use& use, hid_t layout, hid_t whole, const Placed& placed, size_t parts) {
  const Piece& piece = *placed.piece;
  const std::string doing = cat("map ", piece_path(piece));
  const Hdf5Handle line = make_space(use, std::vector{piece.end - piece.begin});
  hsize_t at = 0;
  for (const Box& box : boxes_of(piece.shape, piece.begin, piece.end)) {
    hsize_t length = 1;
    for (const hsize_t n : box.count) length *= n;
    use.check(H5Sselect_hyperslab(whole, H5S_SELECT_SET, box.start.data(), nullptr, box.count.data(), nullptr), doing);
    use.check(H5Sselect_hyperslab(line, H5S_SELECT_SET, &at, nullptr, &length, nullptr), doing);
    use.check(H5Pset_virtual(layout, whole, part_file_name(placed.part, static_cast<int64_t>(parts)).c_str(),
                             cat("/", piece_path(piece)).c_str(), line),
              doing);
    at += length;
  }
}

void write_blocks(const Hdf5Use& use, hid_t dataset, const std::vector<Placed>& pieces) {
  std::vector<int64_t> begins, ends, parts, offsets;
  std::vector<uint64_t> sums;
  for (const auto& [piece, part] : pieces) {
    const int64_t size = static_cast<int64_t>(size_of(piece->dtype));
    for (size_t b = 0; b < piece->xxh3.size(); ++b) {
      begins.push_back(piece->begin + static_cast<int64_t>(b) * kBlockElements);
      ends.push_back(std::min(piece->end, begins.back() + kBlockElements));
      parts.push_back(part);
      offsets.push_back(piece->offset + (begins.back() - piece->begin) * size);
      sums.push_back(piece->xxh3[b]);
    }
  }
  write_attribute(use, dataset, "piece_begin", std::span<const int64_t>(begins));
  write_attribute(use, dataset, "piece_end", std::span<const int64_t>(ends));
  write_attribute(use, dataset, "piece_part", std::span<const int64_t>(parts));
  write_attribute(use, dataset, "piece_offset", std::span<const int64_t>(offsets));
  write_attribute(use, dataset, "piece_xxh3_64", std::span<const uint64_t>(sums));
}

void write_tensor(const Hdf5Use& use, hid_t file, const std::string& name, const std::vector<Placed>& pieces,
                  size_t parts) {
  const std::string doing = cat("create ", name);
  const Piece& first = *pieces.front().piece;
  const Hdf5Handle layout = use.hold(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, doing);
  use.check(H5Pset_obj_track_times(layout, false), doing);  // the same state gives the same bytes
  const Hdf5Handle whole = make_space(use, first.shape.dims());
  if (first.dtype != DType::i32) {  // what a lost part file held shows as NaN, not as zero
    const double nan = std::numeric_limits<double>::quiet_NaN();
    use.check(H5Pset_fill_value(layout, H5T_NATIVE_DOUBLE, &nan), doing);
  }
  for (const Placed& placed : pieces) map_piece(use, layout, whole, placed, parts);
  create_groups_above(use, file, name);
  use.check(H5Sselect_all(whole), doing);
  Hdf5Handle dataset =
      use.hold(H5Dcreate2(file, name.c_str(), stored_type(first.dtype), whole, H5P_DEFAULT, layout, H5P_DEFAULT),
               H5Dclose, doing);
  write_blocks(use, dataset, pieces);
  use.check(dataset.close(), doing);
}

void write_attributes(const Hdf5Use& use, hid_t file, const Attributes& a, const std::vector<PartFile>& parts) {
  write_attribute(use, file, "format", a.format);
  write_attribute(use, file, "program", a.program);
  write_attribute(use, file, "config", a.config);
  if (!a.data.empty()) write_attribute(use, file, "data", a.data);
  write_attribute(use, file, "step", a.step);
  write_attribute(use, file, "updates", a.updates);
  write_attribute(use, file, "samples", a.samples);
  write_attribute(use, file, "tokens", a.tokens);
  std::vector<int64_t> bytes;
  std::vector<uint64_t> rests;
  for (const PartFile& part : parts) {
    bytes.push_back(part.bytes);
    rests.push_back(part.rest_xxh3);
  }
  write_attribute(use, file, "part_bytes", std::span<const int64_t>(bytes));
  write_attribute(use, file, "part_rest_xxh3_64", std::span<const uint64_t>(rests));
}

// More than the file can have.
int64_t largest_size(const Attributes& attributes, const std::vector<PartFile>& parts) {
  int64_t bytes = (1 << 16) + 2 * static_cast<int64_t>(attributes.config.size() + attributes.data.size());
  for (const PartFile& part : parts)
    for (const Piece& piece : part.pieces) bytes += 4096 + 64 * static_cast<int64_t>(piece.xxh3.size());
  return bytes;
}

// The file as HDF5 writes it, with room for the seal in front.
std::string make_file(const std::filesystem::path& path, const Attributes& attributes,
                      const std::vector<PartFile>& parts) {
  const auto tensors = by_tensor(parts);
  check_file_size_limit(path, largest_size(attributes, parts));
  const File memory = File::in_memory();
  {
    const Hdf5Use use(path);
    const Hdf5Handle access = make_memory_access(use);
    const Hdf5Handle creation = make_file_creation(use);
    use.check(H5Pset_userblock(creation, kSealBytes), "prepare");
    Hdf5Handle file =
        use.hold(H5Fcreate(memory.path().c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose, "create the file");
    write_attributes(use, file, attributes, parts);
    for (const auto& [name, pieces] : tensors) write_tensor(use, file, name, pieces, parts.size());
    use.check(file.close(), "close the file");
  }
  std::string bytes(static_cast<size_t>(memory.size()), '\0');
  memory.read_at(std::as_writable_bytes(std::span(bytes)), 0);
  return bytes;
}

}  // namespace

void write_index(const std::filesystem::path& path, const Attributes& attributes, const std::vector<PartFile>& parts) {
  std::string bytes = make_file(path, attributes, parts);
  bytes.replace(0, kSealBytes, make_seal(std::string_view(bytes).substr(kSealBytes)));
  File file = File::create(path);
  file.write_at(std::as_bytes(std::span(bytes)), 0);
  file.sync();
  file.close();
}

}  // namespace gf
