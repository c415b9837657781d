// SPDX-License-Identifier: Apache-2.0
// Token files that are read as one: their tokens follow one another in the order of the list, whatever the type of
// each. All are checked when this is made, and stay open; none is read but where tokens are asked for, and the memory
// that this takes does not depend on their sizes. With Masked::yes each has a loss mask, checked likewise.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/data/binidx.h"
#include "io/data/loss_mask.h"

namespace gf {

class TokenFiles {
 public:
  explicit TokenFiles(std::span<const std::string> prefixes, Masked = Masked::no);

  std::string name() const;  // for messages: the prefix, or the first one and how many more
  const std::vector<BinIdx>& files() const { return files_; }
  bool masked() const { return !masks_.empty(); }
  const std::vector<LossMask>& masks() const { return masks_; }  // of each file; none where they are not asked for
  int64_t tokens() const { return begins_.back(); }
  int64_t sequences() const;
  int64_t documents() const;
  std::string identity(size_t file) const;  // what its order of samples depends on, wherever it lies, for a person too

  // As BinIdx has them, over all files; messages name the file, and positions in it.
  void read(int64_t begin, std::span<int32_t> out) const;
  void read(int64_t begin, std::span<int32_t> out, int64_t vocab_size) const;
  void read_mask(int64_t begin, std::span<uint8_t> out) const;
  // The first tokens of each file, at most so many: to refuse data of another vocabulary before it is used.
  void check_beginnings(int64_t tokens, int64_t vocab_size) const;

 private:
  // Calls body(file, its first token, how many) for the parts of tokens [begin, begin + count) in each file.
  template <class Body>
  void for_parts(int64_t begin, int64_t count, Body&& body) const;

  std::vector<BinIdx> files_;
  std::vector<LossMask> masks_;
  std::vector<int64_t> begins_;  // of each file, and the end
};

}  // namespace gf
