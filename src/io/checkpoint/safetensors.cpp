// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "io/checkpoint/safetensors_header.h"
#include "io/partial_file.h"
#include "tensor/float_formats.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr const char* kBroken = "the file is cut off or no .safetensors file; fetch it again";

struct Format {
  FloatFormat format;
  const char* name;
};
constexpr Format kFormats[] = {{FloatFormat::f32, "F32"}, {FloatFormat::bf16, "BF16"}, {FloatFormat::f16, "F16"}};

const Format* format_named(std::string_view dtype) {
  const auto* found = std::ranges::find_if(kFormats, [&](const Format& f) { return dtype == f.name; });
  return found == std::end(kFormats) ? nullptr : found;
}

const Format& format_of(FloatFormat format) {
  return *std::ranges::find(kFormats, format, &Format::format);
}

// Why a tensor cannot be read; empty where it can.
std::string obstacle(const SafetensorsEntry& e) {
  if (!format_named(e.dtype)) return "is stored as " + shortened(e.dtype) + "; F32, BF16 and F16 can be read";
  return obstacle_of(e.name, e.shape);
}

void narrow(FloatFormat format, std::span<const float> from, uint16_t* to, const std::string& name) {
  if (format == FloatFormat::bf16) {
    std::ranges::transform(from, to, bf16_from_float);
    return;
  }
  for (size_t i = 0; i < from.size(); ++i) {
    to[i] = f16_from_float(from[i]);
    if ((to[i] & 0x7fff) == 0x7c00 && !std::isinf(from[i]))
      refuse(cat(shortened(name), " holds ", from[i], ", and F16 ends at 65504"), "--dtype bf16 or f32");
  }
}

std::string header_text(std::span<const TensorSource::Entry* const> entries, const Format& format, Metadata metadata) {
  metadata.emplace("format", "pt");  // what Python's loaders ask for
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  int64_t at = 0;
  for (const auto* e : entries) {
    const int64_t end = at + e->shape.numel() * bytes_of(format.format);
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
  constexpr int64_t kStep = int64_t{4} << 20;  // what a checkpoint keeps one checksum for: read once
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

SafetensorsReader::SafetensorsReader(const fs::path& path, File::Links links) : file_(File::open(path, {}, links)) {
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
  std::map<std::string, std::string> unreadable;
  for (const SafetensorsEntry& e : all_) {
    by_name_[e.name] = &e;
    const std::string reason = obstacle(e);
    if (reason.empty())
      entries.push_back({std::string(kModelPrefix) + e.name, DType::f32, Shape(e.shape)});
    else
      unreadable[e.name] = reason;
  }
  set_entries(std::move(entries), std::move(unreadable));
}

std::string SafetensorsReader::config() const {
  const auto found = metadata_.find("config");
  return found == metadata_.end() ? "" : found->second;
}

void SafetensorsReader::fill(std::span<const ShardView> views) const {
  for (const ShardView& view : views) {
    const SafetensorsEntry& e = *by_name_.at(parameter_name(view.name));
    const FloatFormat format = format_named(e.dtype)->format;
    const std::span out(reinterpret_cast<float*>(view.data), static_cast<size_t>(view.end - view.begin));
    read_floats(file_, data_ + e.begin + view.begin * bytes_of(format), format, out);
  }
}

std::vector<const TensorSource::Entry*> parameters_of(const TensorSource& source) {
  std::vector<const TensorSource::Entry*> entries;
  for (const auto& e : source.entries())
    if (e.name.starts_with(kModelPrefix) && e.dtype == DType::f32) entries.push_back(&e);
  return entries;
}

void write_safetensors(File& file, const TensorSource& source, std::span<const TensorSource::Entry* const> entries,
                       FloatFormat float_format, Metadata metadata) {
  const Format& format = format_of(float_format);
  const std::string header = header_text(entries, format, std::move(metadata));
  const uint64_t length = header.size();
  file.write_at(std::as_bytes(std::span(&length, 1)), 0);
  file.write_at(std::as_bytes(std::span(header)), 8);
  int64_t offset = 8 + static_cast<int64_t>(header.size());
  for (const auto* e : entries) {
    write_values(file, offset, source, *e, format);
    offset += e->shape.numel() * bytes_of(float_format);
  }
  file.sync();
}

void write_safetensors(const fs::path& path, const TensorSource& source, FloatFormat format, Metadata metadata) {
  PartialFile partial(path);
  write_safetensors(partial.file(), source, parameters_of(source), format, std::move(metadata));
  partial.publish();
}

}  // namespace gf
