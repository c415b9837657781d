// SPDX-License-Identifier: Apache-2.0
// What the pickles in a file of torch.save say: which tensors there are, and which elements of which storage each one
// is. Every tensor lies within its storage. Where the storages' bytes are is the file's matter, not theirs.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gf {

struct TorchStorage {
  std::string key, type;  // "0", "BFloat16Storage"
  int64_t elements;
};

struct TorchTensor {
  size_t storage;  // its number
  int64_t offset;  // of the first element in the storage
  std::vector<int64_t> sizes, strides;
  int64_t elements;  // product of the sizes
  int64_t last;      // offset of the last one, where there are elements
};

struct TorchState {
  std::vector<TorchStorage> storages;
  std::map<std::string, TorchTensor> tensors;
  std::map<std::string, std::string> others;  // names that are of no tensor -> "is a dict"
};

int64_t torch_element_bytes(std::string_view type);  // of any type that a state may have

// From the pickle in a zip file. Refuses what is wrong in the name of `file`.
TorchState read_torch_state(const std::string& file, std::string_view pickle);

// From the pickles that such a file consisted of before torch 1.6.
struct LegacyTorchState {
  TorchState state;
  std::vector<size_t> order;  // of the storages behind the pickles, each after its number of elements (8 bytes)
  int64_t end;                // of the pickles
};
LegacyTorchState read_legacy_torch_state(const std::string& file, std::string_view beginning);

}  // namespace gf
