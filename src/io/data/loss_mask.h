// SPDX-License-Identifier: Apache-2.0
// Which tokens of a data set count as targets: PREFIX.mask.bin has one byte a token of PREFIX.bin, 1 where predicting
// that token counts, else 0. Opening checks its length against the tokens; bytes are checked where they are read.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "io/data/binidx.h"

namespace gf {

enum class Masked : bool { no, yes };

class LossMask {
 public:
  explicit LossMask(const BinIdx&);  // of this data set; refuses one that is not there or of another length

  static std::string path_of(const std::string& prefix) { return prefix + ".mask.bin"; }

  // Of tokens [begin, begin + out.size()). Refuses a byte that is neither 0 nor 1.
  void read(int64_t begin, std::span<uint8_t> out) const;
  int64_t count(int64_t begin, int64_t end) const;  // the marked tokens among these
  uint64_t fingerprint() const;                     // as BinIdx has it

 private:
  File file_;
  int64_t tokens_;
};

}  // namespace gf
