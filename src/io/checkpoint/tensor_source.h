// SPDX-License-Identifier: Apache-2.0
// A file, or several, from which tensors are read by name: a checkpoint or a .safetensors file. Parameters are called
// model/<published name> in both. A rank reads only the ranges it asks for.
#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/shard_view.h"

namespace gf {

class TensorSource {
 public:
  struct Entry {
    std::string name;
    DType dtype;
    Shape shape;
  };
  virtual ~TensorSource() = default;

  const std::vector<Entry>& entries() const { return entries_; }  // in the order of their names
  const Entry* find(std::string_view name) const;                 // nullptr where there is none
  bool has(std::string_view name) const { return find(name) != nullptr; }

  // Fills the views. All names, shapes and types are checked before anything is read; a mismatch is refused.
  void read(std::span<const ShardView>) const;

 protected:
  void set_entries(std::vector<Entry>);

 private:
  virtual void fill(std::span<const ShardView>) const = 0;     // names, shapes, types and ranges are right
  virtual std::string label() const = 0;                       // for messages: the file
  virtual std::string why_not(const std::string& name) const;  // why an entry that is there cannot be read
  void check(const ShardView&) const;
  std::vector<Entry> entries_;
};

// What --train.load_model names: a .safetensors file, or a checkpoint (see find_checkpoint).
std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path&);

// "blocks.0.att.key.weight" for "model/blocks.0.att.key.weight"; other names as they are.
std::string_view parameter_name(std::string_view name);
inline constexpr std::string_view kModelPrefix = "model/";

}  // namespace gf
