// SPDX-License-Identifier: Apache-2.0
// Bytes to token numbers and back. Every byte string can be encoded, valid UTF-8 or not, and decoding gives the
// same bytes. Token 0 ends a document and stands for no bytes. Immutable and safe from several threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gf {

inline constexpr int32_t kEndOfDocument = 0;

class Vocabulary {
 public:
  virtual ~Vocabulary() = default;

  // "byte" (token = byte + 1, 257 tokens), or the path of a file in the RWKV World format (docs/data.md).
  static std::unique_ptr<Vocabulary> open(const std::string& byte_or_file);

  // What model.vocab_size has to be at least. From a file: one more than the largest number in it, rounded up to a
  // multiple of 64 as in the published models (World: numbers to 65529, size 65536).
  virtual int size() const = 0;
  virtual size_t longest_token() const = 0;  // bytes

  // Appends the tokens of `bytes` to `out`.
  void encode(std::string_view bytes, std::vector<int32_t>& out) const { encode_part(bytes, true, out); }
  // The same for text that comes in parts. Unless this is the last one, it stops where what follows could change the
  // next token. Returns the number of bytes taken; the caller puts the others before the next part.
  virtual size_t encode_part(std::string_view bytes, bool last, std::vector<int32_t>& out) const = 0;

  // Numbers below size() that no token has give nothing; others are refused.
  std::string decode(std::span<const int32_t> tokens) const;

 protected:
  virtual std::string_view bytes_of(int32_t token) const = 0;
};

}  // namespace gf
