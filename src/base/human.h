// SPDX-License-Identifier: Apache-2.0
// Numbers as people read them, three digits at most: 12.3M tokens, 5.12k tok/s, 1h02m. For eyes only: what a
// program reads back is written with all its digits.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace gf {

// A count or a rate: 0, 7, 3.40, 999, 12.3k, 1.00M, 40.0B, 2.50T. "-" where it is not finite.
std::string human_count(double count);

// An amount of memory or data, in powers of ten: 512 B, 1.50 GB. "-" where it is not finite.
std::string human_bytes(double bytes);

// A length of time: 0.25s, 42s, 3m05s, 1h02m, 2d03h. "-" where it is not finite or negative.
std::string human_duration(double seconds);

std::string counted(int64_t count, std::string_view noun);  // "1 thread", "2 threads"

}  // namespace gf
