// SPDX-License-Identifier: Apache-2.0
// The first 512 bytes of checkpoint.h5: format, size and checksum of the file and where our index begins in it, as four
// lines of text.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace gf {

inline constexpr size_t kSealBytes = 512;                   // the smallest user block that HDF5 knows
inline constexpr int64_t kLargestIndex = int64_t{1} << 30;  // 72 bytes a piece: 14 million of them

// Whether some version of this program wrote it, damaged or not, by its first bytes.
bool begins_as_checkpoint(const std::filesystem::path&);

// Of what follows it in the file, the last `section_bytes` of which are the index.
std::string make_seal(std::string_view rest, size_t section_bytes);

// The index in a file that is whole. Refuses one that is not, or was changed since.
std::string_view check_seal(const std::filesystem::path&, std::string_view file);

}  // namespace gf
