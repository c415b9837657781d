// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "io/checkpoint/safetensors_header.h"
#include "io/partial_file.h"
#include "tensor/float_formats.h"

namespace gf {

static_assert(std::endian::native == std::endian::little, "values in files are little-endian and used as they lie");

namespace fs = std::filesystem;

namespace {

constexpr const char* kBroken = "the file is cut off or no .safetensors file; fetch it again";
constexpr int64_t kChunk = int64_t{1} << 20;  // elements converted at a time

struct Format {
  FloatFormat format;
  const char* name;
  int64_t bytes;
};
constexpr Format kFormats[] = {
    {FloatFormat::f32, "F32", 4}, {FloatFormat::bf16, "BF16", 2}, {FloatFormat::f16, "F16", 2}};

const Format* format_named(std::string_view dtype) {
  const auto* found = std::ranges::find_if(kFormats, [&](const Format& f) { return dtype == f.name; });
  return found == std::end(kFormats) ? nullptr : found;
}

const Format& format_of(FloatFormat format) {
  return *std::ranges::find(kFormats, format, &Format::format);
}

// Why a tensor cannot be read; empty where it can.
std::string obstacle(const SafetensorsEntry& e) {
  if (!format_named(e.dtype)) return "is stored as " + e.dtype + "; F32, BF16 and F16 can be read";
  if (e.shape.empty() || e.shape.size() > Shape::kMaxRank)
    return cat("has ", e.shape.size(), " dimensions; 1 to ", Shape::kMaxRank, " can be read");
  if (e.begin == e.end) return "has no elements";
  return {};
}

void widen(FloatFormat format, std::span<const uint16_t> from, float* to) {
  const auto convert = format == FloatFormat::bf16 ? float_from_bf16 : float_from_f16;
  std::ranges::transform(from, to, convert);
}

void narrow(FloatFormat format, std::span<const float> from, uint16_t* to, const std::string& name) {
  if (format == FloatFormat::bf16) {
    std::ranges::transform(from, to, bf16_from_float);
    return;
  }
  for (size_t i = 0; i < from.size(); ++i) {
    to[i] = f16_from_float(from[i]);
    if ((to[i] & 0x7fff) == 0x7c00 && !std::isinf(from[i]))
      refuse(cat(name, " holds ", from[i], ", and F16 ends at 65504"), "--dtype bf16 or f32");
  }
}

std::string header_text(std::span<const TensorSource::Entry* const> entries, const Format& format,
                        std::map<std::string, std::string> metadata) {
  metadata.emplace("format", "pt");  // what Python's loaders ask for
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  int64_t at = 0;
  for (const auto* e : entries) {
    const int64_t end = at + e->shape.numel() * format.bytes;
    header[std::string(parameter_name(e->name))] = {
        {"dtype", format.name}, {"shape", e->shape.dims()}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the values begin at a multiple of 8 bytes
  return text;
}

// Writes the tensor at `offset`, a chunk at a time.
void write_values(File& file, int64_t offset, const TensorSource& source, const TensorSource::Entry& entry,
                  const Format& format) {
  const int64_t elements = entry.shape.numel();
  std::vector<float> values;
  std::vector<uint16_t> narrowed;
  constexpr int64_t kStep = 4 * kChunk;  // what a checkpoint keeps one checksum for: read once
  for (int64_t begin = 0; begin < elements; begin += kStep) {
    const int64_t end = std::min(elements, begin + kStep);
    values.resize(static_cast<size_t>(end - begin));
    const ShardView view{entry.name, DType::f32, entry.shape, begin, end, reinterpret_cast<std::byte*>(values.data())};
    source.read({&view, 1});
    if (format.format == FloatFormat::f32) {
      file.write_at(std::as_bytes(std::span(values)), offset + begin * 4);
    } else {
      narrowed.resize(values.size());
      narrow(format.format, values, narrowed.data(), entry.name);
      file.write_at(std::as_bytes(std::span(narrowed)), offset + begin * 2);
    }
  }
}

}  // namespace

SafetensorsReader::SafetensorsReader(const fs::path& path) : file_(File::open(path)) {
  const int64_t size = file_.size();
  uint64_t length = 0;
  if (size < 8) refuse(cat(path.string(), " is no .safetensors file: it has ", size, " bytes"), kBroken);
  file_.read_at(std::as_writable_bytes(std::span(&length, 1)), 0);
  if (length > static_cast<uint64_t>(std::min(kLongestSafetensorsHeader, size - 8)))
    refuse(cat(path.string(), " says that its header has ", length, " bytes, of the ", size, " of the file (at most ",
               kLongestSafetensorsHeader, " are read)"),
           kBroken);
  std::string json(length, '\0');
  file_.read_at(std::as_writable_bytes(std::span(json)), 8);
  data_ = 8 + static_cast<int64_t>(length);
  SafetensorsHeader header = parse_safetensors_header(path.string(), json, size - data_);
  all_ = std::move(header.entries);
  metadata_ = std::move(header.metadata);
  std::vector<Entry> entries;
  for (const SafetensorsEntry& e : all_)
    if (obstacle(e).empty()) entries.push_back({std::string(kModelPrefix) + e.name, DType::f32, Shape(e.shape)});
  set_entries(std::move(entries));
}

std::string SafetensorsReader::why_not(const std::string& name) const {
  const auto found = std::ranges::find(all_, parameter_name(name), &SafetensorsEntry::name);
  return found == all_.end() ? "" : obstacle(*found);
}

void SafetensorsReader::fill(std::span<const ShardView> views) const {
  std::map<std::string_view, const SafetensorsEntry*> by_name;
  for (const SafetensorsEntry& e : all_) by_name[e.name] = &e;
  std::vector<uint16_t> narrow_values;
  for (const ShardView& view : views) {
    const SafetensorsEntry& e = *by_name.at(parameter_name(view.name));
    const Format& format = *format_named(e.dtype);
    const int64_t offset = data_ + e.begin;
    auto* const out = reinterpret_cast<float*>(view.data);
    if (format.format == FloatFormat::f32) {
      file_.read_at({view.data, static_cast<size_t>(view.end - view.begin) * 4}, offset + view.begin * 4);
      continue;
    }
    for (int64_t begin = view.begin; begin < view.end; begin += kChunk) {
      narrow_values.resize(static_cast<size_t>(std::min(kChunk, view.end - begin)));
      file_.read_at(std::as_writable_bytes(std::span(narrow_values)), offset + begin * 2);
      widen(format.format, narrow_values, out + (begin - view.begin));
    }
  }
}

void write_safetensors(const fs::path& path, const TensorSource& source, FloatFormat float_format,
                       std::map<std::string, std::string> metadata) {
  const Format& format = format_of(float_format);
  std::vector<const TensorSource::Entry*> entries;
  for (const auto& e : source.entries())
    if (e.name.starts_with(kModelPrefix) && e.dtype == DType::f32) entries.push_back(&e);
  const std::string header = header_text(entries, format, std::move(metadata));
  PartialFile partial(path);
  File& file = partial.file();
  const uint64_t length = header.size();
  file.write_at(std::as_bytes(std::span(&length, 1)), 0);
  file.write_at(std::as_bytes(std::span(header)), 8);
  int64_t offset = 8 + static_cast<int64_t>(header.size());
  for (const auto* e : entries) {
    write_values(file, offset, source, *e, format);
    offset += e->shape.numel() * format.bytes;
  }
  file.sync();
  partial.publish();
}

}  // namespace gf
