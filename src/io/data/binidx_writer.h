// SPDX-License-Identifier: Apache-2.0
// Writes a binidx data set in constant memory. Everything goes to PREFIX.bin.partial and PREFIX.idx.partial;
// finish() brings both to disk and gives them their names. Without finish() nothing remains, and a data set
// that stood under the names still stands there.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/data/binidx.h"
#include "io/partial_file.h"

namespace gf {

class BinIdxWriter {
 public:
  // uint16 where the vocabulary fits, else int32. A sequence's length is an int32 in the file, so that a document of
  // more than `longest_sequence` tokens becomes several sequences; it stays one document.
  BinIdxWriter(const std::string& prefix, int64_t vocab_size, int64_t longest_sequence = int64_t{1} << 30);

  void append(std::span<const int32_t> tokens);  // to the document at hand
  void end_document();                           // one without tokens leaves no trace
  void finish();                                 // ends the document at hand too

  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }

 private:
  void end_sequence();
  void write_index();

  int64_t vocab_size_, longest_;
  TokenType type_;
  PartialFile bin_, idx_;
  Appender to_bin_, to_idx_;
  std::vector<uint16_t> narrow_;
  std::vector<int64_t> continued_;  // sequences whose document goes on in the next one: one per 2^30 tokens
  int64_t tokens_ = 0, sequences_ = 0, documents_ = 0, length_ = 0;
  bool finished_ = false;
};

}  // namespace gf
