// SPDX-License-Identifier: Apache-2.0
// binidx files written byte by byte, right or wrong: a second description of the format beside the program's.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "support/files.h"

namespace gf {

template <class T>
void append_bytes(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// What stands in an .idx; each field may be made to lie.
struct IdxFields {
  std::string magic{"MMIDIDX\0\0", 9};
  uint64_t version = 1;
  uint8_t dtype = 8;
  std::vector<int32_t> lengths{};
  std::vector<int64_t> offsets{}, documents{};
  uint64_t sequences = 0, marks = 0;

  std::string bytes() const {
    std::string out = magic;
    append_bytes(out, version);
    append_bytes(out, dtype);
    append_bytes(out, sequences);
    append_bytes(out, marks);
    for (const auto v : lengths) append_bytes(out, v);
    for (const auto v : offsets) append_bytes(out, v);
    for (const auto v : documents) append_bytes(out, v);
    return out;
  }
};

// The fields of documents of these lengths.
inline IdxFields idx_of(const std::vector<int32_t>& lengths, uint8_t dtype, int64_t token_bytes) {
  IdxFields f{.dtype = dtype, .lengths = lengths};
  f.documents = {0};
  for (int64_t offset = 0; const int32_t length : lengths) {
    f.offsets.push_back(offset);
    offset += length * token_bytes;
    f.documents.push_back(static_cast<int64_t>(f.offsets.size()));
  }
  f.sequences = lengths.size();
  f.marks = f.documents.size();
  return f;
}

template <class T>
std::string bytes_of(const std::vector<T>& tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(T)};
}

// A data set of one document.
template <class T>
void write_binidx(const std::string& prefix, const std::vector<T>& tokens, uint8_t dtype) {
  write_file(prefix + ".bin", bytes_of(tokens));
  write_file(prefix + ".idx", idx_of({static_cast<int32_t>(tokens.size())}, dtype, sizeof(T)).bytes());
}

}  // namespace gf
