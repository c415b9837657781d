// SPDX-License-Identifier: Apache-2.0
// Pickles, zip files and files of torch.save, written piece by piece, so that any of it can be wrong.
#pragma once
#include <zlib.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint/tensor_source.h"

namespace gf::pth {

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// Pieces of pickles, each of which leaves one value on the stack.
inline std::string text(const std::string& s) {
  return "X" + raw(static_cast<uint32_t>(s.size())) + s;
}
inline std::string integer(int64_t value) {
  return "\x8a\x08" + raw(value);
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string all = "(";
  for (const std::string& item : items) all += item;
  return all + "t";
}
inline std::string tuple_of(const std::vector<int64_t>& numbers) {
  std::vector<std::string> items;
  for (const int64_t n : numbers) items.push_back(integer(n));
  return tuple(items);
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string call(const std::string& function, const std::vector<std::string>& arguments) {
  return function + tuple(arguments) + "R";
}
inline std::string ordered_dict() {
  return call(global("collections", "OrderedDict"), {});
}
inline std::string storage(const std::string& key, int64_t elements, const std::string& type = "FloatStorage") {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(elements)}) + "Q";
}
inline std::string tensor(const std::string& of, int64_t offset, const std::vector<int64_t>& sizes,
                          const std::vector<int64_t>& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {of, integer(offset), tuple_of(sizes), tuple_of(strides), "\x89", ordered_dict()});
}
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string all = "}(";
  for (const auto& [name, value] : items) all += text(name) + value;
  return all + "u";
}
inline std::string pickle(const std::string& value) {
  return "\x80\x02" + value + ".";
}

struct ZipFileEntry {
  std::string name, bytes;
  uint16_t method = 0, flags = 0;
  std::optional<uint32_t> crc32 = {};
  std::optional<uint32_t> size = {};    // what the directory says
  std::optional<uint32_t> offset = {};  // likewise
};

inline std::string zip_of(const std::vector<ZipFileEntry>& entries) {
  std::string file, directory;
  for (const ZipFileEntry& e : entries) {
    const auto size = static_cast<uint32_t>(e.bytes.size());
    const uint32_t crc = e.crc32.value_or(static_cast<uint32_t>(
        ::crc32(0, reinterpret_cast<const Bytef*>(e.bytes.data()), static_cast<uInt>(e.bytes.size()))));
    const auto fields = [&](uint32_t bytes) {
      return raw(e.flags) + raw(e.method) + raw(uint32_t{0}) + raw(crc) + raw(bytes) + raw(bytes) +
             raw(static_cast<uint16_t>(e.name.size())) + raw(uint16_t{0});
    };
    directory += "PK\1\2" + raw(uint16_t{0}) + raw(uint16_t{0}) + fields(e.size.value_or(size)) + raw(uint16_t{0}) +
                 raw(uint16_t{0}) + raw(uint16_t{0}) + raw(uint32_t{0}) +
                 raw(e.offset.value_or(static_cast<uint32_t>(file.size()))) + e.name;
    file += "PK\3\4" + raw(uint16_t{0}) + fields(size) + e.name + e.bytes;
  }
  const auto count = static_cast<uint16_t>(entries.size());
  return file + directory + "PK\5\6" + raw(uint32_t{0}) + raw(count) + raw(count) +
         raw(static_cast<uint32_t>(directory.size())) + raw(static_cast<uint32_t>(file.size())) + raw(uint16_t{0});
}

// What torch.save writes, as far as a reader needs it.
inline std::string pth_of(const std::string& pickled, const std::vector<std::string>& storages) {
  std::vector<ZipFileEntry> entries{{"archive/data.pkl", pickled}};
  for (size_t i = 0; i < storages.size(); ++i) entries.push_back({"archive/data/" + std::to_string(i), storages[i]});
  return zip_of(entries);
}

// One float32 tensor, 2x3, of the values 0 to 5.
inline std::string six_floats() {
  std::string bytes;
  for (int i = 0; i < 6; ++i) bytes += raw(static_cast<float>(i));
  return bytes;
}
inline std::string small_pickle() {
  return pickle(dict({{"emb.weight", tensor(storage("0", 6), 0, {2, 3}, {3, 1})}}));
}
inline std::string small_pth() {
  return pth_of(small_pickle(), {six_floats()});
}

// The parameters of a source, a storage each.
inline std::string pth_of(const TensorSource& source) {
  std::vector<std::pair<std::string, std::string>> tensors;
  std::vector<std::string> storages;
  for (const TensorSource::Entry& e : source.entries()) {
    if (!e.name.starts_with(kModelPrefix)) continue;
    std::string values(static_cast<size_t>(e.shape.numel()) * sizeof(float), '\0');
    const ShardView whole{e.name, e.dtype, e.shape, 0, e.shape.numel(), reinterpret_cast<std::byte*>(values.data())};
    source.read({&whole, 1});
    std::vector<int64_t> sizes(e.shape.dims().begin(), e.shape.dims().end()), strides(sizes.size(), 1);
    for (size_t i = sizes.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * sizes[i + 1];
    const std::string key = std::to_string(storages.size());
    tensors.emplace_back(parameter_name(e.name), tensor(storage(key, e.shape.numel()), 0, sizes, strides));
    storages.push_back(std::move(values));
  }
  return pth_of(pickle(dict(tensors)), storages);
}

}  // namespace gf::pth
