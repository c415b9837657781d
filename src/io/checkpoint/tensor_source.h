// SPDX-License-Identifier: Apache-2.0
// A file, or several, from which tensors are read by name: a checkpoint, or weights that another program wrote.
// Parameters are called model/<published name> in all of them. A rank reads only the ranges it asks for.
#pragma once
#include <filesystem>
#include <map>
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
  // Names, without model/, of what is there and cannot be read, and why: "is stored as I64".
  const std::map<std::string, std::string>& unreadable() const { return unreadable_; }

  virtual std::string config() const { return {}; }  // YAML, as the file carries it; empty where it does not
  // Reads all that has a checksum and compares it.
  virtual void verify() const {}

  // Fills the views. All names, shapes and types are checked before anything is read; a mismatch is refused.
  void read(std::span<const ShardView>) const;
  // Those checks alone, of one view; `hint` in place of what to do about a tensor that is missing or of another shape.
  void check(const ShardView&, const std::string& hint = {}) const;
  // Whether the file has a tensor of this name, be it one that can be read or not.
  bool mentions(std::string_view name) const;

 protected:
  void set_entries(std::vector<Entry>, std::map<std::string, std::string> unreadable = {});

 private:
  virtual void fill(std::span<const ShardView>) const = 0;  // names, shapes, types and ranges are right
  virtual std::string label() const = 0;                    // for messages: the file
  std::vector<Entry> entries_;
  std::map<std::string, std::string> unreadable_;
};

// Weights that another program wrote, by the end of the file's name; nullptr for one that is of no such file.
std::unique_ptr<TensorSource> open_weights(const std::filesystem::path&);
inline constexpr const char* kWeightFiles = ".safetensors, .safetensors.index.json, .pth or .pt";
// What --train.load_model names: such a file, or a checkpoint (see find_checkpoint).
std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path&);

// Whether a file may call a parameter so: text that a terminal shows and other formats can hold. Anything else is in no
// file but one that was made to do harm.
bool is_tensor_name(std::string_view);
inline constexpr size_t kLongestTensorName = 1000;

// Why a tensor of a file from elsewhere cannot be one of a checkpoint; empty where it can.
std::string obstacle_of(const std::string& name, std::span<const int64_t> sizes);

// "blocks.0.att.key.weight" for "model/blocks.0.att.key.weight"; other names as they are.
std::string_view parameter_name(std::string_view name);
inline constexpr std::string_view kModelPrefix = "model/";

}  // namespace gf
