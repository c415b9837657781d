// SPDX-License-Identifier: Apache-2.0
// A file that torch.save wrote of a dictionary of tensors (.pth, .pt), of today (a zip file) or from before torch 1.6.
// Its pickle is read as data, nothing is executed. Tensors of float32, bfloat16 and float16 are read as float, whatever
// their strides; one of another type is refused by its name where it is asked for. The tensor T is called model/T here.
// Only what is asked for is read; where the file has checksums, a storage is compared with its own before it is used.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint/float_values.h"
#include "io/checkpoint/pth/torch_state.h"
#include "io/checkpoint/pth/zip_directory.h"
#include "io/checkpoint/tensor_source.h"
#include "io/files.h"

namespace gf {

class PthReader final : public TensorSource {
 public:
  explicit PthReader(const std::filesystem::path&);
  void verify() const override;

 private:
  struct Place {
    std::string name;
    ZipEntry bytes;
    mutable bool checked = false;
  };
  void open_zip();
  void open_legacy();
  void check_total() const;
  void make_entries();
  void fill(std::span<const ShardView>) const override;
  void gather(const TorchTensor&, FloatFormat, int64_t begin, std::span<float> out) const;
  void check_storage(size_t number) const;
  std::string label() const override { return file_.path().string(); }

  File file_;
  TorchState state_;
  std::vector<Place> places_;  // of the storages
};

}  // namespace gf
