// SPDX-License-Identifier: Apache-2.0
// Reading checkpoint.h5. Nothing in it is trusted: sizes are checked against each other before memory is asked for.
#include "io/checkpoint/checkpoint_index.h"

#include <xxhash.h>

#include <charconv>
#include <optional>

#include "base/error.h"
#include "io/checkpoint/hdf5_handle.h"
#include "io/checkpoint/index_seal.h"
#include "io/files.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

Shape checked_shape(const std::vector<int64_t>& dims) {
  if (dims.empty() || dims.size() > Shape::kMaxRank) fail(cat("a tensor of ", dims.size(), " dimensions"));
  int64_t elements = 8;  // bytes of the largest element type: no product below may overflow
  for (const int64_t d : dims)
    if (d <= 0 || __builtin_mul_overflow(elements, d, &elements)) fail(cat("a dimension of ", d));
  return Shape(dims);
}

std::vector<Block> read_blocks(const Hdf5Use& use, hid_t dataset) {
  const auto begins = read_integers(use, dataset, "piece_begin"), ends = read_integers(use, dataset, "piece_end"),
             parts = read_integers(use, dataset, "piece_part"), offsets = read_integers(use, dataset, "piece_offset");
  const auto sums = read_hashes(use, dataset, "piece_xxh3_64");
  const size_t count = begins.size();
  if (ends.size() != count || parts.size() != count || offsets.size() != count || sums.size() != count)
    fail("its lists of pieces have different lengths");
  std::vector<Block> blocks;
  for (size_t i = 0; i < count; ++i) blocks.push_back({begins[i], ends[i], parts[i], offsets[i], sums[i]});
  return blocks;
}

void check_blocks(const IndexedTensor& tensor, const std::vector<CheckpointIndex::Part>& parts) {
  const int64_t size = static_cast<int64_t>(size_of(tensor.dtype)), elements = tensor.shape.numel();
  int64_t at = 0;
  for (const Block& b : tensor.blocks) {
    if (b.begin != at || b.end <= b.begin || b.end > elements || b.end - b.begin > kBlockElements)
      fail(cat(tensor.name, " has a piece from ", b.begin, " to ", b.end, " after element ", at, " of ", elements));
    if (b.part < 0 || b.part >= static_cast<int64_t>(parts.size()))
      fail(cat(tensor.name, " has a piece in part ", b.part, " of ", parts.size()));
    const int64_t bytes = (b.end - b.begin) * size, room = parts[static_cast<size_t>(b.part)].bytes;
    if (b.offset < 0 || bytes > room || b.offset > room - bytes)
      fail(cat(tensor.name, " has ", bytes, " bytes at ", b.offset, " in a part of ", room));
    at = b.end;
  }
  if (at != elements) fail(cat("the pieces of ", tensor.name, " end at ", at, " of ", elements, " elements"));
}

IndexedTensor read_tensor(const Hdf5Use& use, hid_t file, const std::string& name) {
  const Hdf5Handle dataset = use.hold(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, "open " + name);
  const auto dtype = element_type(use, dataset);
  if (!dtype) fail(cat(name, " has an unknown element type"));
  return {name, *dtype, checked_shape(dims_of(use, dataset)), read_blocks(use, dataset)};
}

Attributes read_attributes(const Hdf5Use& use, hid_t file) {
  Attributes a;
  a.format = read_string(use, file, "format");
  if (a.format != kCheckpointFormat)
    fail(cat("its format is ", a.format, ", and this program reads ", kCheckpointFormat));
  a.program = read_string(use, file, "program");
  a.config = read_string(use, file, "config");
  if (has_attribute(use, file, "data")) a.data = read_string(use, file, "data");
  a.step = read_integer(use, file, "step");
  a.updates = has_attribute(use, file, "updates") ? read_integer(use, file, "updates") : a.step;  // 0.1.0 had no others
  a.samples = read_integer(use, file, "samples");
  a.tokens = read_integer(use, file, "tokens");
  if (a.step < 0 || a.updates < 0 || a.updates > a.step || a.samples < 0 || a.tokens < 0)
    fail(cat("it counts ", a.step, " steps, ", a.updates, " updates, ", a.samples, " samples and ", a.tokens,
             " tokens"));
  return a;
}

CheckpointIndex parse(const Hdf5Use& use, hid_t file) {
  CheckpointIndex index{read_attributes(use, file), {}, {}};
  const auto bytes = read_integers(use, file, "part_bytes");
  const auto rests = read_hashes(use, file, "part_rest_xxh3_64");
  if (bytes.empty() || bytes.size() != rests.size())
    fail(cat(bytes.size(), " part sizes, ", rests.size(), " checksums"));
  for (size_t i = 0; i < bytes.size(); ++i) index.parts.push_back({bytes[i], rests[i]});
  for (const std::string& name : dataset_paths(use, file)) {
    index.tensors.push_back(read_tensor(use, file, name));
    check_blocks(index.tensors.back(), index.parts);
  }
  return index;
}

}  // namespace

CheckpointIndex read_index(const fs::path& path) {
  std::string image = read_small_file(path, kLargestIndex);
  check_seal(path, image);
  try {
    const Hdf5Use use(path);
    const Hdf5Handle access = make_access(use);
    use.check(H5Pset_fapl_core(access, 1 << 16, false), "prepare");
    use.check(H5Pset_file_image(access, image.data(), image.size()), "prepare");
    // The library wants a name under which there is no file.
    const std::string name = path / "in-memory";
    const Hdf5Handle file = use.hold(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access), H5Fclose, "open the file");
    return parse(use, file);
  } catch (const Error& e) {
    refuse(cat(path.string(), " is no checkpoint: ", e.what()), "gf ckpt verify of another step folder");
  }
}

}  // namespace gf
