// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_reader.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/parallel_for.h"
#include "base/text.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/files.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr size_t kChunk = 1 << 20;  // read and added to the checksum while it is in the cache

class Checksum {
 public:
  Checksum() : state_(XXH3_createState(), XXH3_freeState) { XXH3_64bits_reset(state_.get()); }
  void read(const File& file, std::span<std::byte> bytes, int64_t offset) {
    while (!bytes.empty()) {
      const auto chunk = bytes.first(std::min(bytes.size(), kChunk));
      file.read_at(chunk, offset);
      XXH3_64bits_update(state_.get(), chunk.data(), chunk.size());
      bytes = bytes.subspan(chunk.size());
      offset += static_cast<int64_t>(chunk.size());
    }
  }
  uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

void compare(const File& file, const std::string& what, uint64_t got, uint64_t written) {
  if (got == written) return;
  refuse(fmt::format("{} is damaged: {} has the checksum {:016x} and was written with {:016x}", file.path().string(),
                     what, got, written),
         "a whole copy of the file, or another step folder beside it");
}

int64_t bytes_of(const IndexedTensor& tensor, const Block& block) {
  return (block.end - block.begin) * static_cast<int64_t>(size_of(tensor.dtype));
}

}  // namespace

// A block that is read, and the views that want some of it.
struct CheckpointReader::Wanted {
  const IndexedTensor* tensor;
  const Block* block;
  std::vector<const ShardView*> views;
};

CheckpointReader::CheckpointReader(const std::filesystem::path& where)
    : path_(find_checkpoint(where)), index_(read_index(path_)) {
  std::vector<Entry> entries;
  for (const IndexedTensor& t : index_.tensors) entries.push_back({t.name, t.dtype, t.shape});
  set_entries(std::move(entries));
}

int64_t CheckpointReader::num_bytes() const {
  int64_t bytes = 0;
  for (const auto& part : index_.parts) bytes += part.bytes;
  return bytes;
}

const IndexedTensor& CheckpointReader::tensor(const std::string& name) const {
  return *std::ranges::lower_bound(index_.tensors, name, {}, &IndexedTensor::name);
}

File CheckpointReader::open_part(int64_t part) const {
  const fs::path path = path_.parent_path() / part_file_name(part, num_parts());
  if (!fs::exists(path))
    refuse(cat("there is no ", path.string(), ", which ", path_.string(), " refers to"),
           "a whole copy of the folder, or another step folder beside it");
  File file = File::open(path, {}, File::Links::refuse);
  const int64_t bytes = index_.parts[static_cast<size_t>(part)].bytes;
  if (file.size() != bytes)
    refuse(cat(file.path().string(), " is damaged: it has ", file.size(), " bytes and was written with ", bytes),
           "a whole copy of the file, or another step folder beside it");
  return file;
}

void CheckpointReader::fill(std::span<const ShardView> views) const {
  // Ordered by part and place, so that files are read from front to back.
  std::map<int64_t, std::map<int64_t, Wanted>> parts;
  for (const ShardView& view : views) {
    if (view.begin == view.end) continue;
    const IndexedTensor& t = tensor(view.name);
    auto block = std::ranges::upper_bound(t.blocks, view.begin, {}, &Block::end);
    for (; block != t.blocks.end() && block->begin < view.end; ++block)
      parts[block->part].try_emplace(block->offset, Wanted{&t, &*block, {}}).first->second.views.push_back(&view);
  }
  for (const auto& [part, blocks] : parts) {
    const File file = open_part(part);
    std::vector<const Wanted*> list;
    for (const auto& [offset, wanted] : blocks) list.push_back(&wanted);
    parallel_for(static_cast<int64_t>(list.size()), [&](int64_t i) {
      const Wanted& w = *list[static_cast<size_t>(i)];
      read_block(file, *w.tensor, *w.block, w.views);
    });
  }
}

void CheckpointReader::read_block(const File& file, const IndexedTensor& tensor, const Block& block,
                                  std::span<const ShardView* const> views) const {
  const int64_t size = static_cast<int64_t>(size_of(tensor.dtype));
  // Straight into a view that wants all of it; otherwise beside, and each view takes its share.
  const auto whole =
      std::ranges::find_if(views, [&](const ShardView* v) { return v->begin <= block.begin && block.end <= v->end; });
  std::vector<std::byte> beside(whole == views.end() ? static_cast<size_t>(bytes_of(tensor, block)) : 0);
  std::byte* const data =
      whole == views.end() ? beside.data() : (*whole)->data + (block.begin - (*whole)->begin) * size;
  Checksum sum;
  sum.read(file, {data, static_cast<size_t>(bytes_of(tensor, block))}, block.offset);
  compare(file, cat(shortened(tensor.name), ", elements ", block.begin, " to ", block.end, ","), sum.value(),
          block.xxh3);
  for (const ShardView* view : views) {
    if (whole != views.end() && view == *whole) continue;
    const int64_t begin = std::max(view->begin, block.begin), end = std::min(view->end, block.end);
    std::memcpy(view->data + (begin - view->begin) * size, data + (begin - block.begin) * size,
                static_cast<size_t>((end - begin) * size));
  }
}

void CheckpointReader::verify() const {
  for (int64_t part = 0; part < num_parts(); ++part) verify_rest(part);
  for (int64_t part = 0; part < num_parts(); ++part) {
    std::vector<std::pair<const IndexedTensor*, const Block*>> blocks;
    for (const IndexedTensor& t : index_.tensors)
      for (const Block& b : t.blocks)
        if (b.part == part) blocks.emplace_back(&t, &b);
    const File file = open_part(part);
    parallel_for(static_cast<int64_t>(blocks.size()), [&](int64_t i) {
      const auto& [t, b] = blocks[static_cast<size_t>(i)];
      read_block(file, *t, *b, {});
    });
  }
}

// The bytes around the values: what HDF5 wrote for itself.
void CheckpointReader::verify_rest(int64_t part) const {
  std::vector<Bytes> values;
  for (const IndexedTensor& t : index_.tensors)
    for (const Block& b : t.blocks)
      if (b.part == part) values.push_back({b.offset, b.offset + bytes_of(t, b)});
  std::ranges::sort(values, {}, &Bytes::begin);
  const File file = open_part(part);
  Checksum sum;
  std::vector<std::byte> bytes;
  for (const auto& [begin, end] : bytes_around(values, file.size())) {
    for (int64_t at = begin; at < end; at += static_cast<int64_t>(bytes.size())) {
      bytes.resize(std::min(kChunk, static_cast<size_t>(end - at)));
      sum.read(file, bytes, at);
    }
  }
  compare(file, "what is not a tensor in it", sum.value(), index_.parts[static_cast<size_t>(part)].rest_xxh3);
}

}  // namespace gf
