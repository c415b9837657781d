// SPDX-License-Identifier: Apache-2.0
#include "io/text/vocabulary.h"

#include <array>

#include "base/error.h"
#include "io/text/world_vocabulary.h"

namespace gf {
namespace {

class ByteVocabulary final : public Vocabulary {
 public:
  ByteVocabulary() {
    for (int i = 0; i < 256; ++i) bytes_[i] = static_cast<char>(i);
  }
  int size() const override { return 257; }
  size_t longest_token() const override { return 1; }
  size_t encode_part(std::string_view bytes, bool, std::vector<int32_t>& out) const override {
    const size_t before = out.size();
    out.resize(before + bytes.size());
    for (size_t i = 0; i < bytes.size(); ++i) out[before + i] = static_cast<unsigned char>(bytes[i]) + 1;
    return bytes.size();
  }

 private:
  std::string_view bytes_of(int32_t token) const override {
    return token == kEndOfDocument ? std::string_view() : std::string_view(&bytes_[token - 1], 1);
  }
  std::array<char, 256> bytes_;
};

}  // namespace

std::unique_ptr<Vocabulary> Vocabulary::open(const std::string& byte_or_file) {
  if (byte_or_file == "byte") return std::make_unique<ByteVocabulary>();
  return std::make_unique<WorldVocabulary>(byte_or_file);
}

std::string Vocabulary::decode(std::span<const int32_t> tokens) const {
  std::string out;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= size()) refuse(cat("token ", token, " is not one of a vocabulary of ", size()));
    out += bytes_of(token);
  }
  return out;
}

}  // namespace gf
