// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/safetensors_shards.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>

#include "base/error.h"
#include "base/text.h"
#include "io/files.h"
#include "io/partial_file.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kLongestIndex = int64_t{64} << 20;
constexpr size_t kMostShards = 10'000, kLongestName = 255;
constexpr std::string_view kSuffix = ".safetensors";
constexpr const char* kBroken = "a whole copy of the index and its files";

// {"metadata": {...}, "weight_map": {"tensor": "file"}}, taken event by event: of anything else nothing is kept.
class IndexEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IndexEvents(const std::string& file) : file_(file) {}
  std::map<std::string, std::string> files;  // by tensor
  bool has_map = false;

  bool start_object(size_t) override { return enter("an object"); }
  bool end_object() override { return leave(); }
  bool start_array(size_t) override { return enter("a list"); }
  bool end_array() override { return leave(); }
  bool key(std::string& key) override {
    if (depth_ == 1) {
      if (key == "weight_map" && has_map) wrong("weight_map twice");
      in_map_ = key == "weight_map";
      has_map |= in_map_;
    }
    name_ = key;
    return true;
  }
  bool string(std::string& value) override {
    if (in_map_ && depth_ != 2) wrong("no object under weight_map");
    if (in_map_ && !files.try_emplace(name_, value).second) wrong(shortened(name_) + " twice");
    return true;
  }
  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const std::string&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    refuse(cat(file_, " is no JSON, at byte ", position, ": ", parser_message(e.what())), kBroken);
  }

 private:
  [[noreturn]] void wrong(const std::string& what) const {
    refuse(cat(file_, " is no index of .safetensors files: ", what), kBroken);
  }
  bool enter(const char* kind) {
    if (depth_ == 0 && kind != std::string_view("an object")) wrong("it is no object");
    if (in_map_ && (depth_ > 1 || kind != std::string_view("an object"))) wrong("weight_map has more than names");
    if (++depth_ > 16) wrong("it is nested too deep");
    return true;
  }
  bool leave() {
    if (--depth_ == 1) in_map_ = false;
    return true;
  }
  bool other() {
    if (depth_ == 0) wrong("it is no object");
    if (in_map_) wrong("weight_map has more than names");
    return true;
  }
  std::string file_, name_;
  int depth_ = 0;
  bool in_map_ = false;
};

// No path in an index is followed: a bare name in the index's own folder, and no link there.
void check_file_name(const std::string& index, const std::string& name) {
  const bool text = std::ranges::none_of(name, [](unsigned char c) { return c < 32 || c == '/' || c == '\\'; });
  if (!text || !name.ends_with(kSuffix) || name.starts_with('.') || name.size() > kLongestName)
    refuse(cat(index, " names a file ", cited(name), ", which is not the name of a .safetensors file beside it"),
           "do not trust where it came from");
}

struct Shard {
  std::vector<const TensorSource::Entry*> entries;
  int64_t bytes = 0;
};

std::vector<Shard> cut(const TensorSource& source, FloatFormat format, int64_t most_bytes) {
  std::vector<Shard> shards(1);
  for (const auto* e : parameters_of(source)) {
    const int64_t bytes = e->shape.numel() * bytes_of(format);
    if (!shards.back().entries.empty() && shards.back().bytes > most_bytes - bytes) shards.emplace_back();
    shards.back().entries.push_back(e);
    shards.back().bytes += bytes;
  }
  return shards;
}

std::string shard_name(const std::string& stem, size_t number, size_t of) {
  return fmt::format("{}-{:05}-of-{:05}{}", stem, number, of, kSuffix);
}

// Whether shard_name() could have made it.
bool is_shard_name(std::string_view name, std::string_view stem) {
  constexpr std::string_view kForm = "-#####-of-#####.safetensors";
  if (!name.starts_with(stem)) return false;
  name.remove_prefix(stem.size());
  return std::ranges::equal(name, kForm,
                            [](char c, char form) { return form == '#' ? c >= '0' && c <= '9' : c == form; });
}

// Files of its set that an index names, beside it, other than those that are `written`. Anyone can have written the
// index: what is not such a file, or is a link, is not touched. One that cannot be read names nothing.
std::vector<fs::path> others_of_set(const fs::path& index, const std::string& stem,
                                    std::span<PartialFile* const> written) {
  std::error_code error;
  if (!fs::exists(index, error)) return {};
  IndexEvents events(index.string());
  try {
    nlohmann::json::sax_parse(read_small_file(index, kLongestIndex), &events);
  } catch (const Error&) {
    return {};
  }
  std::set<fs::path> others, places;  // a new file may be where a link of its name leads
  for (const PartialFile* const file : written) places.insert(fs::weakly_canonical(file->path(), error));
  for (const auto& [tensor, name] : events.files)
    if (const fs::path file = index.parent_path() / name;
        is_shard_name(name, stem) && fs::symlink_status(file, error).type() == fs::file_type::regular &&
        !places.contains(fs::weakly_canonical(file, error)))
      others.insert(file);
  return {others.begin(), others.end()};
}

void remove_older(const std::vector<fs::path>& files) {
  size_t removed = 0;
  try {
    for (; removed < files.size(); ++removed) remove_durably(files[removed]);
  } catch (const Error& e) {
    std::string command = "rm";
    for (const fs::path& file : std::span(files).subspan(removed)) command += cat(" '", file.string(), "'");
    throw Error(cat(e.what(), "; all that was to be written is there, and files of an older export beside it"), command,
                e.status(), e.where());
  }
}

void refuse_other(const fs::path& other, const fs::path& path) {
  if (fs::exists(other))
    refuse(cat(other.string(), " is there from another export, and would be taken for what is now written as ",
               path.string()),
           "another name, or remove it first");
}

}  // namespace

SafetensorsShards::SafetensorsShards(const fs::path& index) : index_(index) {
  const std::string text = read_small_file(index, kLongestIndex);
  IndexEvents events(index.string());
  nlohmann::json::sax_parse(text, &events);
  if (events.files.empty()) refuse(cat(index.string(), " is no index of .safetensors files: it has no weight_map"));
  std::map<std::string, std::vector<std::string>> tensors;  // by file
  for (const auto& [tensor, file] : events.files) {
    check_file_name(index.string(), file);
    tensors[file].push_back(tensor);
  }
  if (tensors.size() > kMostShards) refuse(cat(index.string(), " names ", tensors.size(), " files"), kBroken);
  allow_open_files(static_cast<int64_t>(tensors.size()));
  std::vector<Entry> entries;
  std::map<std::string, std::string> unreadable;
  for (const auto& [file, names] : tensors) {
    const SafetensorsReader& shard =
        *shards_.emplace_back(std::make_unique<SafetensorsReader>(index.parent_path() / file, File::Links::refuse));
    for (const std::string& name : names)
      if (!shard.has(cat(kModelPrefix, name)) && !shard.unreadable().contains(name))
        refuse(cat(index.string(), " has ", shortened(name), " in ", file, ", which does not have it"), kBroken);
    if (names.size() != shard.all().size())
      refuse(
          cat(file, " has ", shard.all().size(), " tensors, and ", index.string(), " knows ", names.size(), " of them"),
          kBroken);
    entries.insert(entries.end(), shard.entries().begin(), shard.entries().end());
    for (const Entry& e : shard.entries()) shard_of_.emplace(e.name, &shard);
    unreadable.insert(shard.unreadable().begin(), shard.unreadable().end());
  }
  set_entries(std::move(entries), std::move(unreadable));
}

void SafetensorsShards::fill(std::span<const ShardView> views) const {
  std::map<const SafetensorsReader*, std::vector<ShardView>> own;
  for (const ShardView& v : views) own[shard_of_.at(v.name)].push_back(v);
  for (const auto& [shard, its_views] : own) shard->read(its_views);
}

WrittenShards write_safetensors_shards(const fs::path& path, const TensorSource& source, FloatFormat format,
                                       int64_t most_bytes, const Metadata& metadata) {
  const std::vector<Shard> shards = cut(source, format, most_bytes);
  fs::path stem = path;
  stem.replace_extension();
  const fs::path index = stem.string() + std::string(kIndexSuffix);
  if (shards.size() == 1) {
    refuse_other(index, path);
    write_safetensors(path, source, format, metadata);
    return {{path}, {}};
  }
  refuse_other(path, index);
  allow_open_files(static_cast<int64_t>(shards.size()) + 1);
  PartialFile index_file(index);
  std::vector<fs::path> names;
  std::vector<std::unique_ptr<PartialFile>> files;
  nlohmann::ordered_json map;
  int64_t total = 0;
  for (const Shard& shard : shards) {
    names.push_back(index.parent_path() / shard_name(stem.filename().string(), names.size() + 1, shards.size()));
    files.push_back(std::make_unique<PartialFile>(names.back()));
    write_safetensors(files.back()->file(), source, shard.entries, format, metadata);
    for (const auto* e : shard.entries) map[std::string(parameter_name(e->name))] = names.back().filename().string();
    total += shard.bytes;
  }
  const nlohmann::ordered_json content = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  const std::string text = content.dump(2) + "\n";
  index_file.file().write(std::as_bytes(std::span(text)));
  index_file.file().sync();
  std::vector<PartialFile*> in_order;
  for (const auto& file : files) in_order.push_back(file.get());
  in_order.push_back(&index_file);
  const std::vector<fs::path> older = others_of_set(index, stem.filename().string(), in_order);
  // An older index goes before the first file of its set does, and the new one comes last.
  PartialFile::publish_all(in_order, {&index_file.path(), 1});
  remove_older(older);
  names.push_back(index);
  return {names, older};
}

}  // namespace gf
