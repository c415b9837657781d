// SPDX-License-Identifier: Apache-2.0
// Weights in several .safetensors files, with an index beside them that says which tensor is in which: the layout of
// Hugging Face's hub. NAME.safetensors.index.json names NAME-00001-of-00003.safetensors and so on. An index and its
// files must agree in full; it can name files of its own folder only.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint/safetensors.h"

namespace gf {

inline constexpr std::string_view kIndexSuffix = ".safetensors.index.json";

class SafetensorsShards final : public TensorSource {
 public:
  explicit SafetensorsShards(const std::filesystem::path& index);
  std::string config() const override { return shards_.front()->config(); }

 private:
  void fill(std::span<const ShardView>) const override;
  std::string label() const override { return index_.string(); }

  std::filesystem::path index_;
  std::vector<std::unique_ptr<SafetensorsReader>> shards_;
  std::map<std::string_view, const SafetensorsReader*> shard_of_;  // by the name of an entry of entries()
};

struct WrittenShards {
  std::vector<std::filesystem::path> files, removed;
};

// Writes all parameters as `path`, which ends in .safetensors, where their values have at most so many bytes; otherwise
// as several files of at most so many each (a larger tensor has one to itself) and an index. A reader finds all of it
// or none. What an earlier export left under the name of the other kind is refused. Once all is there, those files go
// that an older index of this name has and the new one does not: regular files beside it that have names as these.
WrittenShards write_safetensors_shards(const std::filesystem::path& path, const TensorSource&, FloatFormat,
                                       int64_t most_bytes, const Metadata&);

}  // namespace gf
