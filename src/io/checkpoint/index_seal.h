// SPDX-License-Identifier: Apache-2.0
// The first 512 bytes of checkpoint.h5: format, size and checksum of the file, as three lines of text.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace gf {

inline constexpr size_t kSealBytes = 512;                   // the smallest user block that HDF5 knows
inline constexpr int64_t kLargestIndex = int64_t{1} << 30;  // 40 bytes a piece: 20 million of them

std::string make_seal(std::string_view hdf5);  // of what follows it in the file

// Refuses a file that is not whole or was changed since.
void check_seal(const std::filesystem::path&, std::string_view file);

}  // namespace gf
