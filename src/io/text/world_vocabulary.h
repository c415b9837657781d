// SPDX-License-Identifier: Apache-2.0
// A vocabulary from a file in the RWKV World format: each line `number literal length`, the literal as Python's
// repr() writes a str or bytes, the length in bytes. Encoding takes the longest token that fits, again and again.
#pragma once
#include <string>
#include <vector>

#include "io/text/byte_trie.h"
#include "io/text/vocabulary.h"

namespace gf {

class WorldVocabulary final : public Vocabulary {
 public:
  // Refuses, naming the line: what is no such line, a length that is not the literal's, a number or a byte string that
  // stands there twice, the number 0; and a file that lacks any single byte, which could not encode every text.
  explicit WorldVocabulary(const std::string& path);

  int size() const override { return static_cast<int>(begins_.size()) - 1; }
  size_t longest_token() const override { return longest_; }
  size_t encode_part(std::string_view bytes, bool last, std::vector<int32_t>& out) const override;

 private:
  using Entries = std::vector<std::pair<std::string, int32_t>>;
  explicit WorldVocabulary(const Entries& sorted);
  static Entries load(const std::string& path);
  std::string_view bytes_of(int32_t token) const override {
    return std::string_view(text_).substr(begins_[token], begins_[token + 1] - begins_[token]);
  }

  ByteTrie trie_;
  std::string text_;              // all tokens' bytes, by number
  std::vector<uint32_t> begins_;  // where each token's bytes begin in it
  size_t longest_ = 0;
};

}  // namespace gf
