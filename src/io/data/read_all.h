// SPDX-License-Identifier: Apache-2.0
// Reading from files of data, tokens and masks, whose size is checked once, when they are opened.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "io/files.h"

namespace gf {

// All of `out` from there. A file that ends earlier was cut short since: an error, and not the user's wrong input.
void read_all(const File&, int64_t offset, std::span<std::byte> out);

}  // namespace gf
