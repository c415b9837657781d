// SPDX-License-Identifier: Apache-2.0
// checkpoint.h5: to other programs an HDF5 file without values of its own, which shows whole tensors (virtual datasets
// over the part files). To us it is the index that says where each block of each tensor lies and what its checksum is;
// that we read from a form of our own behind what is HDF5's. The first 512 bytes (a user block, which HDF5 skips) hold
// size and checksum of all, so that a damaged index is found out before a line of it is believed. Files are named by
// part numbers only: no path in it is ever followed.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_part.h"
#include "tensor/types.h"

namespace gf {

inline constexpr const char* kCheckpointFormat = "gf-checkpoint-2";

struct Attributes {
  std::string format = kCheckpointFormat;
  std::string program;  // what wrote it
  std::string config;   // YAML
  std::string data;     // of a run: what it read, a line for each file; empty where nobody said
  int64_t step = 0;     // optimizer steps done
  int64_t updates = 0;  // of these, those that changed the parameters: what AdamW counts
  int64_t samples = 0;  // sequences seen
  int64_t tokens = 0;
};

// Of elements under one checksum, in a checkpoint of any version.
inline constexpr int64_t kLargestBlock = int64_t{4} << 20;

struct Block {
  int64_t begin, end;  // elements of the whole tensor
  int64_t part;
  int64_t offset;  // in bytes from the start of the part file; they overlap no other block's
  uint64_t xxh3;
};

struct IndexedTensor {
  std::string name;
  DType dtype;
  Shape shape;
  std::vector<Block> blocks;  // in order, without gap or overlap from 0 to the last element
};

struct CheckpointIndex {
  struct Part {
    int64_t bytes;
    uint64_t rest_xxh3;
  };
  Attributes attributes;
  std::vector<Part> parts;
  std::vector<IndexedTensor> tensors;
};

// Joins the parts, which together must hold every element of every tensor exactly once, and syncs the file.
void write_index(const std::filesystem::path&, const Attributes&, const std::vector<PartFile>&);

// Whatever is wrong with the file is refused.
CheckpointIndex read_index(const std::filesystem::path&);

}  // namespace gf
