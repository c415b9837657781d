// SPDX-License-Identifier: Apache-2.0
// Reads a checkpoint, whatever number of ranks wrote it, into whatever ranges a rank holds. Only blocks that are needed
// are read, and each is verified against its checksum. Anything wrong with the files is refused, naming file and
// tensor.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_index.h"
#include "io/checkpoint/tensor_source.h"

namespace gf {

class CheckpointReader final : public TensorSource {
 public:
  explicit CheckpointReader(const std::filesystem::path&);  // all that find_checkpoint understands

  const Attributes& attributes() const { return index_.attributes; }
  const std::filesystem::path& path() const { return path_; }  // of checkpoint.h5
  int64_t num_parts() const { return static_cast<int64_t>(index_.parts.size()); }
  int64_t num_bytes() const;  // of all parts

  std::string config() const override { return index_.attributes.config; }
  void verify() const override;  // every byte of every file

 private:
  struct Wanted;
  void fill(std::span<const ShardView>) const override;
  std::string label() const override { return path_.string(); }
  const IndexedTensor& tensor(const std::string& name) const;
  class File open_part(int64_t part) const;
  void read_block(const class File&, const IndexedTensor&, const Block&, std::span<const ShardView* const>) const;
  void verify_rest(int64_t part) const;

  std::filesystem::path path_;
  CheckpointIndex index_;
};

}  // namespace gf
