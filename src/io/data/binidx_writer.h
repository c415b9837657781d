// SPDX-License-Identifier: Apache-2.0
// Writes a binidx data set in constant memory, and its loss mask where it is to have one. Everything goes to files
// named *.partial; finish() brings them to disk and gives them their names. Without finish() nothing remains, and a
// data set that stood under the names still stands there. A mask of an earlier one goes with it. Where all is on disk
// and only a name cannot be given, the files named *.partial stay: the error says what to do with them.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/data/binidx.h"
#include "io/data/loss_mask.h"
#include "io/partial_file.h"

namespace gf {

class BinIdxWriter {
 public:
  static constexpr int64_t kLongestSequence = int64_t{1} << 30;
  // uint16 where the vocabulary fits, else int32. A sequence's length is an int32 in the file, so that a document of
  // more than `longest_sequence` tokens becomes several sequences; it stays one document.
  BinIdxWriter(const std::string& prefix, int64_t vocab_size, int64_t longest_sequence = kLongestSequence,
               Masked = Masked::no);

  // To the document at hand; with a mask, a mark for each token: 1 where it counts as a target, else 0.
  void append(std::span<const int32_t> tokens, std::span<const uint8_t> marks = {});
  void end_document();  // one without tokens leaves no trace
  void finish();        // ends the document at hand too
  // Of several data sets: none takes its names before all are on disk.
  static void finish_all(std::span<BinIdxWriter* const>);

  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }
  int64_t marked() const { return marked_; }

 private:
  struct MaskFile {
    explicit MaskFile(const std::string& path) : file(path), out(file.file()) {}
    PartialFile file;
    Appender out;
  };
  void end_sequence();
  void write_index();
  void complete();

  std::string prefix_;
  int64_t vocab_size_, longest_;
  TokenType type_;
  PartialFile bin_, idx_;
  Appender to_bin_, to_idx_;
  std::unique_ptr<MaskFile> mask_;  // null: there is to be none
  std::vector<uint16_t> narrow_;
  std::vector<int64_t> continued_;  // sequences whose document goes on in the next one: one per 2^30 tokens
  int64_t tokens_ = 0, sequences_ = 0, documents_ = 0, length_ = 0, marked_ = 0;
  bool finished_ = false;
};

}  // namespace gf
