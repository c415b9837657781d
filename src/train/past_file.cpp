// SPDX-License-Identifier: Apache-2.0
#include "train/past_file.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <charconv>

#include "base/build_id.h"
#include "io/checkpoint/safetensors.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

constexpr const char* kLogits = "model/logits";
constexpr const char* kFixed = "model/fixed:";
constexpr const char* kGrowing = "model/growing:";
constexpr const char* kPositions = "positions";  // keys of the metadata
constexpr const char* kContent = "content";

// What the metadata says, and where it could be had as it should be.
constexpr std::pair<const char*, const char*> kHints[] = {
    {"format", "a file that --state-out of this program wrote"},
    {"model", "the checkpoint that the text was read with"},
    {"build", "the program that wrote it, or the text itself once more"},
    {"cache", "the same --cache as when it was written"},
    {"cache-dtype", "the same --cache-dtype as when it was written"},
};

// Tensors that are in memory, by name.
class KeptTensors final : public TensorSource {
 public:
  explicit KeptTensors(std::map<std::string, Tensor> tensors) : tensors_(std::move(tensors)) {
    std::vector<Entry> entries;
    for (const auto& [name, t] : tensors_) entries.push_back({name, t.dtype(), t.shape()});
    set_entries(std::move(entries));
  }

 private:
  void fill(std::span<const ShardView> views) const override {
    for (const ShardView& v : views)
      copy(tensors_.at(v.name).range(v.begin, v.end),
           Tensor({v.data, [](std::byte*) {}}, {v.end - v.begin}, v.dtype, kCpu));
  }
  std::string label() const override { return "what was read"; }
  std::map<std::string, Tensor> tensors_;
};

void digest(const std::string& name, const Tensor& t, uint64_t& sum) {
  sum = XXH3_64bits_withSeed(name.data(), name.size(), sum);
  sum = XXH3_64bits_withSeed(t.raw(), t.bytes(), sum);
}

// All that the logits depend on, beside the tokens.
std::string digest_of(const LayerStack& layers) {
  uint64_t sum = 0;
  for (const auto& p : layers.parameters().all()) digest(p->name(), p->value(), sum);
  return fmt::format("{:016x}", sum);
}

std::string digest_of(const std::map<std::string, Tensor>& tensors) {
  uint64_t sum = 0;
  for (const auto& [name, t] : tensors) digest(name, t, sum);
  return fmt::format("{:016x}", sum);
}

std::map<std::string, std::string> metadata_of(const LayerStack& layers, const Past::Options& o) {
  return {{"format", "gf past 1"},
          {"model", digest_of(layers)},
          {"build", build_id()},
          {"cache", o.expanded ? "expanded" : "compressed"},
          {"cache-dtype", name_of(o.cache)}};
}

std::string after(std::string_view prefix, const std::string& name) {
  return name.substr(prefix.size());
}

// Tokens are exact in float32, and the only rows that are not that already.
Tensor as_float(const Tensor& rows) {
  if (rows.dtype() == DType::f32) return rows;
  Tensor floats = Tensor::empty(rows.shape(), DType::f32, kCpu);
  std::copy_n(rows.data<int32_t>(), rows.numel(), floats.data<float>());
  return floats;
}

Tensor as_tokens(const Tensor& floats) {
  Tensor tokens = Tensor::empty(floats.shape(), DType::i32, kCpu);
  for (int64_t i = 0; i < floats.numel(); ++i)
    tokens.data<int32_t>()[i] = static_cast<int32_t>(floats.data<float>()[i]);
  return tokens;
}

std::string value_of(const SafetensorsReader& reader, const char* key) {
  const auto found = reader.metadata().find(key);
  return found == reader.metadata().end() ? "nothing" : found->second;
}

int64_t positions_of(const SafetensorsReader& reader) {
  const std::string text = value_of(reader, kPositions);
  int64_t positions = 0;
  std::from_chars(text.data(), text.data() + text.size(), positions);
  return positions;
}

std::map<std::string, Tensor> read_all(const TensorSource& source) {
  std::map<std::string, Tensor> tensors;
  for (const TensorSource::Entry& entry : source.entries()) {
    const Tensor t = Tensor::empty(entry.shape, entry.dtype, kCpu);
    const ShardView view{entry.name, entry.dtype, entry.shape, 0, entry.shape.numel(), t.raw()};
    source.read({&view, 1});
    tensors.emplace(entry.name, t);
  }
  return tensors;
}

void check_metadata(const std::string& file, const SafetensorsReader& reader,
                    const std::map<std::string, std::string>& own) {
  for (const auto& [key, hint] : kHints) {
    const std::string there = value_of(reader, key);
    if (there != own.at(key)) refuse(cat(file, ": its ", key, " is ", there, ", and here it is ", own.at(key)), hint);
  }
}

}  // namespace

void write_past(const std::filesystem::path& path, const StatefulDecoder& decoder) {
  const Past& past = decoder.past();
  GF_CHECK(past.size() > 0 && decoder.logits(), "nothing was read that could be kept");
  std::map<std::string, Tensor> tensors{{kLogits, decoder.logits()}};
  for (const auto& [name, t] : past.fixed()) tensors.emplace(cat(kFixed, name), t);
  for (const auto& [name, rows] : past.all_growing())
    tensors.emplace(cat(kGrowing, name), as_float(rows.rows(0, rows.size())));
  auto metadata = metadata_of(decoder.layers(), past.options());
  metadata.emplace(kPositions, std::to_string(past.size()));
  metadata.emplace(kContent, digest_of(tensors));
  write_safetensors(path, KeptTensors(std::move(tensors)), FloatFormat::f32, std::move(metadata));
}

StatefulDecoder read_past(const std::filesystem::path& path, const LayerStack& layers,
                          StatefulDecoder::Options options) {
  const SafetensorsReader reader(path);
  check_metadata(path.string(), reader, metadata_of(layers, options.past));
  const std::map<std::string, Tensor> tensors = read_all(reader);
  if (digest_of(tensors) != value_of(reader, kContent))
    refuse(cat(path.string(), ": damaged: its tensors are not those that were written"), "read the text once more");
  Past past(options.past);
  past.read_on(positions_of(reader));
  for (const auto& [name, t] : tensors) {
    if (name == cat(kGrowing, kKeptTokens))
      kept_tokens(past, layers.config()).append(as_tokens(t));
    else if (name.starts_with(kGrowing))
      past.growing(after(kGrowing, name), t.size(-1)).append(t);
    else if (name.starts_with(kFixed))
      copy(t, past.state(after(kFixed, name), t.shape(), t.dtype()));
  }
  return {layers, options, std::move(past), tensors.at(kLogits)};
}

}  // namespace gf
