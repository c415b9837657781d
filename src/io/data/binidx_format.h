// SPDX-License-Identifier: Apache-2.0
// The layout of a .idx file, shared by its reader and its writer: a header of 34 bytes, then int32 lengths
// (tokens) and int64 offsets (bytes) of all sequences, then the int64 sequence number at which each document
// begins and, last, the number of sequences. Little-endian.
#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <string>

#include "io/data/binidx.h"

namespace gf {

static_assert(std::endian::native == std::endian::little, "binidx files are read and written as they lie in memory");

inline constexpr std::array<char, 9> kIdxMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
inline constexpr uint64_t kIdxVersion = 1;

struct __attribute__((packed)) IdxHeader {
  std::array<char, 9> magic = kIdxMagic;
  uint64_t version = kIdxVersion;
  uint8_t type = 0;
  uint64_t sequences = 0;
  uint64_t document_marks = 0;  // documents + 1
};
static_assert(sizeof(IdxHeader) == 34);

inline constexpr TokenType kTokenTypes[] = {{1, "uint8", 1}, {2, "int8", 1},  {3, "int16", 2},
                                            {4, "int32", 4}, {5, "int64", 8}, {8, "uint16", 2}};
inline constexpr TokenType kInt32 = kTokenTypes[3], kUint16 = kTokenTypes[5];

}  // namespace gf
