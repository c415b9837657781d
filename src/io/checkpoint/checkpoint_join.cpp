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
#include "io/checkpoint/index_section.h"
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

std::vector<Block> blocks_of(const std::vector<Placed>& pieces) {
  std::vector<Block> blocks;
  for (const auto& [piece, part] : pieces) {
    const int64_t size = static_cast<int64_t>(size_of(piece->dtype));
    for (size_t b = 0; b < piece->xxh3.size(); ++b) {
      const int64_t begin = piece->begin + static_cast<int64_t>(b) * kBlockElements;
      blocks.push_back({begin, std::min(piece->end, begin + kBlockElements), part,
                        piece->offset + (begin - piece->begin) * size, piece->xxh3[b]});
    }
  }
  return blocks;
}

CheckpointIndex index_of(const Attributes& attributes, const std::vector<PartFile>& parts,
                         const std::map<std::string, std::vector<Placed>>& tensors) {
  CheckpointIndex index{attributes, {}, {}};
  for (const PartFile& part : parts) index.parts.push_back({part.bytes, part.rest_xxh3});
  for (const auto& [name, pieces] : tensors) {
    const Piece& first = *pieces.front().piece;
    index.tensors.push_back({name, first.dtype, first.shape, blocks_of(pieces)});
  }
  return index;
}

// A list with one field of each.
template <class T, class Item>
void write_field(const Hdf5Use& use, hid_t object, const char* name, const std::vector<Item>& items, T Item::*field) {
  std::vector<T> values;
  for (const Item& item : items) values.push_back(item.*field);
  write_attribute(use, object, name, std::span<const T>(values));
}

void write_blocks(const Hdf5Use& use, hid_t dataset, const std::vector<Block>& blocks) {
  write_field(use, dataset, "piece_begin", blocks, &Block::begin);
  write_field(use, dataset, "piece_end", blocks, &Block::end);
  write_field(use, dataset, "piece_part", blocks, &Block::part);
  write_field(use, dataset, "piece_offset", blocks, &Block::offset);
  write_field(use, dataset, "piece_xxh3_64", blocks, &Block::xxh3);
}

void write_tensor(const Hdf5Use& use, hid_t file, const IndexedTensor& tensor, const std::vector<Placed>& pieces,
                  size_t parts) {
  const std::string doing = cat("create ", tensor.name);
  const Hdf5Handle layout = use.hold(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, doing);
  use.check(H5Pset_obj_track_times(layout, false), doing);  // the same state gives the same bytes
  const Hdf5Handle whole = make_space(use, tensor.shape.dims());
  if (tensor.dtype != DType::i32) {  // what a lost part file held shows as NaN, not as zero
    const double nan = std::numeric_limits<double>::quiet_NaN();
    use.check(H5Pset_fill_value(layout, H5T_NATIVE_DOUBLE, &nan), doing);
  }
  for (const Placed& placed : pieces) map_piece(use, layout, whole, placed, parts);
  create_groups_above(use, file, tensor.name);
  use.check(H5Sselect_all(whole), doing);
  Hdf5Handle dataset = use.hold(
      H5Dcreate2(file, tensor.name.c_str(), stored_type(tensor.dtype), whole, H5P_DEFAULT, layout, H5P_DEFAULT),
      H5Dclose, doing);
  write_blocks(use, dataset, tensor.blocks);
  use.check(dataset.close(), doing);
}

void write_attributes(const Hdf5Use& use, hid_t file, const CheckpointIndex& index) {
  const Attributes& a = index.attributes;
  write_attribute(use, file, "format", a.format);
  write_attribute(use, file, "program", a.program);
  write_attribute(use, file, "config", a.config);
  if (!a.data.empty()) write_attribute(use, file, "data", a.data);
  write_attribute(use, file, "step", a.step);
  write_attribute(use, file, "updates", a.updates);
  write_attribute(use, file, "samples", a.samples);
  write_attribute(use, file, "tokens", a.tokens);
  write_field(use, file, "part_bytes", index.parts, &CheckpointIndex::Part::bytes);
  write_field(use, file, "part_rest_xxh3_64", index.parts, &CheckpointIndex::Part::rest_xxh3);
}

// More than the file can have.
int64_t largest_size(const Attributes& attributes, const std::vector<PartFile>& parts) {
  int64_t bytes = (1 << 16) + 3 * static_cast<int64_t>(attributes.config.size() + attributes.data.size());
  for (const PartFile& part : parts)
    for (const Piece& piece : part.pieces) bytes += 4096 + 96 * static_cast<int64_t>(piece.xxh3.size());
  return bytes;
}

// What HDF5 makes of it, after room for the seal.
std::string make_hdf5(const std::filesystem::path& path, const CheckpointIndex& index,
                      const std::map<std::string, std::vector<Placed>>& tensors) {
  const File memory = File::in_memory();
  {
    const Hdf5Use use(path);
    const Hdf5Handle access = make_memory_access(use);
    const Hdf5Handle creation = make_file_creation(use);
    use.check(H5Pset_userblock(creation, kSealBytes), "prepare");
    Hdf5Handle file =
        use.hold(H5Fcreate(memory.path().c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose, "create the file");
    write_attributes(use, file, index);
    for (const IndexedTensor& t : index.tensors) write_tensor(use, file, t, tensors.at(t.name), index.parts.size());
    use.check(file.close(), "close the file");
  }
  std::string bytes(static_cast<size_t>(memory.size()), '\0');
  memory.read_at(std::as_writable_bytes(std::span(bytes)), 0);
  return bytes;
}

}  // namespace

void write_index(const std::filesystem::path& path, const Attributes& attributes, const std::vector<PartFile>& parts) {
  const auto tensors = by_tensor(parts);
  check_file_size_limit(path, largest_size(attributes, parts));
  const CheckpointIndex index = index_of(attributes, parts, tensors);
  const std::string section = encode_index(index);
  std::string bytes = make_hdf5(path, index, tensors) + section;
  bytes.replace(0, kSealBytes, make_seal(std::string_view(bytes).substr(kSealBytes), section.size()));
  File file = File::create(path);
  file.write_at(std::as_bytes(std::span(bytes)), 0);
  file.sync();
  file.close();
}

}  // namespace gf
