// SPDX-License-Identifier: Apache-2.0
// Tokens on disk as Megatron and RWKV-LM write them: PREFIX.bin holds the tokens, PREFIX.idx says how they
// are cut into documents. Tokens are read at flat offsets across documents.
// Opening checks both files against each other in constant time, whatever their size. Reads go through
// pread, not a mapping: a file cut short by someone else is then an error with a message and no SIGBUS, and
// a sample costs one system call, which is nothing beside the training step that eats it.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "io/files.h"

namespace gf {

// How a token is stored. The codes are Megatron's; its reals (6, 7) are no tokens and are refused.
struct TokenType {
  uint8_t code;
  const char* name;
  int64_t size;  // bytes
};

class BinIdx {
 public:
  explicit BinIdx(const std::string& prefix);

  const std::string& prefix() const { return prefix_; }
  int64_t tokens() const { return tokens_; }
  int64_t sequences() const { return sequences_; }
  int64_t documents() const { return documents_; }
  const TokenType& type() const { return type_; }

  // Tokens [begin, begin + out.size()). Safe from several threads. Refuses a token outside [0, vocab_size),
  // and without a vocabulary size one that no int32 holds, with its value and position.
  void read(int64_t begin, std::span<int32_t> out) const;
  void read(int64_t begin, std::span<int32_t> out, int64_t vocab_size) const;

  // Walks the whole index: refuses lengths and offsets that do not follow one another. Reading needs none of
  // that, so that opening leaves it out.
  void verify() const;

  // Tells other data from this, as far as a few reads can: of the type, the length and both ends of the .bin.
  uint64_t fingerprint() const;

 private:
  BinIdx(const std::string& prefix, const File& idx);
  void read_header(const File& idx);
  void check_ends(const File& idx) const;
  void verify_sequences(const File& idx) const;
  void verify_documents(const File& idx) const;

  std::string prefix_;
  File bin_;  // the .idx is open only while it is looked at, since data may lie in a thousand files
  TokenType type_{};
  int64_t tokens_ = 0, sequences_ = 0, documents_ = 0;
};

}  // namespace gf
