// SPDX-License-Identifier: Apache-2.0
// The .safetensors format: 8 bytes of length, a JSON header, the values. Tensors of F32, BF16 and F16 are read as
// float; one of another type is refused by its name where it is asked for. The header is checked in full before
// anything else: a file is either whole and consistent or refused. The tensor T of a file is called model/T here, as in
// a checkpoint.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint/float_values.h"
#include "io/checkpoint/tensor_source.h"
#include "io/files.h"

namespace gf {

struct SafetensorsEntry {
  std::string name;   // as in the file
  std::string dtype;  // F32, BF16, I64, ...
  std::vector<int64_t> shape;
  int64_t begin, end;  // bytes, from the end of the header
};

class SafetensorsReader final : public TensorSource {
 public:
  explicit SafetensorsReader(const std::filesystem::path&, File::Links = File::Links::follow);
  SafetensorsReader(const SafetensorsReader&) = delete;
  SafetensorsReader& operator=(const SafetensorsReader&) = delete;
  const std::vector<SafetensorsEntry>& all() const { return all_; }  // also those of other types; sorted by place
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  std::string config() const override;

 private:
  void fill(std::span<const ShardView>) const override;
  std::string label() const override { return file_.path().string(); }

  File file_;
  int64_t data_ = 0;  // where the values begin
  std::vector<SafetensorsEntry> all_;
  std::map<std::string_view, const SafetensorsEntry*> by_name_;  // of all_: a read that looked at each would take long
  std::map<std::string, std::string> metadata_;
};

using Metadata = std::map<std::string, std::string>;

// The tensors of a source that are written: its model/ tensors.
std::vector<const TensorSource::Entry*> parameters_of(const TensorSource&);

// Writes these tensors of a source to an empty file, piece by piece, and syncs it. A value that the format cannot hold
// (F16 ends at 65504) is refused.
void write_safetensors(File&, const TensorSource&, std::span<const TensorSource::Entry* const>, FloatFormat, Metadata);

// Writes all parameters beside `path`, and then renames.
void write_safetensors(const std::filesystem::path&, const TensorSource&, FloatFormat, Metadata = {});

}  // namespace gf
