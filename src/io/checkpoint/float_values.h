// SPDX-License-Identifier: Apache-2.0
// Floating-point values as other programs' files hold them, read as float, whatever they are stored as.
#pragma once
#include <cstdint>
#include <span>

#include "io/files.h"

namespace gf {

enum class FloatFormat : uint8_t { f32, bf16, f16 };

inline constexpr int64_t bytes_of(FloatFormat format) {
  return format == FloatFormat::f32 ? 4 : 2;
}

// As many values as `out` has, one after another from byte `offset` on.
void read_floats(const File&, int64_t offset, FloatFormat, std::span<float> out);

}  // namespace gf
