// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/float_values.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "tensor/float_formats.h"

namespace gf {

static_assert(std::endian::native == std::endian::little, "values in files are little-endian and used as they lie");

void read_floats(const File& file, int64_t offset, FloatFormat format, std::span<float> out) {
  if (format == FloatFormat::f32) {
    file.read_at(std::as_writable_bytes(out), offset);
    return;
  }
  constexpr size_t kChunk = size_t{1} << 20;  // elements converted at a time
  std::vector<uint16_t> narrow(std::min(kChunk, out.size()));
  for (size_t begin = 0; begin < out.size(); begin += kChunk) {
    const auto from = std::span(narrow).first(std::min(kChunk, out.size() - begin));
    file.read_at(std::as_writable_bytes(from), offset + static_cast<int64_t>(begin) * 2);
    std::ranges::transform(from, out.data() + begin, format == FloatFormat::bf16 ? float_from_bf16 : float_from_f16);
  }
}

}  // namespace gf
