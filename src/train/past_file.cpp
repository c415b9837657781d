// SPDX-License-Identifier: Apache-2.0
#include "train/past_file.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "base/build_id.h"
#include "io/checkpoint/safetensors.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

constexpr const char* kLogits = "model/logits";
constexpr const char* kTokens = "model/tokens";
constexpr const char* kFixed = "model/fixed:";
constexpr const char* kGrowing = "model/growing:";

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

// All that the logits depend on, beside the tokens.
std::string digest_of(const LayerStack& layers) {
  uint64_t digest = 0;
  for (const auto& p : layers.parameters().all()) {
    digest = XXH3_64bits_withSeed(p->name().data(), p->name().size(), digest);
    digest = XXH3_64bits_withSeed(p->value().raw(), p->value().bytes(), digest);
  }
  return fmt::format("{:016x}", digest);
}

std::map<std::string, std::string> metadata_of(const LayerStack& layers, const Past::Options& o) {
  return {{"format", "gf past 1"},
          {"model", digest_of(layers)},
          {"build", build_id()},
          {"cache", o.expanded ? "expanded" : "compressed"},
          {"cache-dtype", name_of(o.cache)}};
}

Tensor as_float(const Tensor& tokens) {
  Tensor floats = Tensor::empty(tokens.shape(), DType::f32, kCpu);
  std::copy_n(tokens.data<int32_t>(), tokens.numel(), floats.data<float>());
  return floats;
}

Tensor read_whole(const TensorSource& source, const TensorSource::Entry& entry) {
  Tensor t = Tensor::empty(entry.shape, entry.dtype, kCpu);
  const ShardView view{entry.name, entry.dtype, entry.shape, 0, entry.shape.numel(), t.raw()};
  source.read({&view, 1});
  return t;
}

void check_metadata(const std::string& file, const SafetensorsReader& reader,
                    const std::map<std::string, std::string>& own) {
  for (const auto& [key, hint] : kHints) {
    const auto found = reader.metadata().find(key);
    const std::string there = found == reader.metadata().end() ? "nothing" : found->second;
    if (there != own.at(key)) refuse(cat(file, ": its ", key, " is ", there, ", and here it is ", own.at(key)), hint);
  }
}

}  // namespace

void write_past(const std::filesystem::path& path, const StatefulDecoder& decoder) {
  const Past past = decoder.past().copy();
  GF_CHECK(past.tokens().size() > 0 && decoder.logits(), "nothing was read that could be kept");
  std::map<std::string, Tensor> tensors{{kLogits, decoder.logits()},
                                        {kTokens, as_float(past.tokens().rows(0, past.tokens().size()))}};
  for (const auto& [name, t] : past.fixed()) tensors.emplace(cat(kFixed, name), t);
  for (const auto& [name, rows] : past.all_growing()) tensors.emplace(cat(kGrowing, name), rows.rows(0, rows.size()));
  write_safetensors(path, KeptTensors(std::move(tensors)), FloatFormat::f32,
                    metadata_of(decoder.layers(), past.options()));
}

StatefulDecoder read_past(const std::filesystem::path& path, const LayerStack& layers,
                          StatefulDecoder::Options options) {
  const SafetensorsReader reader(path);
  check_metadata(path.string(), reader, metadata_of(layers, options.past));
  Past past(options.past);
  Tensor logits;
  for (const TensorSource::Entry& entry : reader.entries()) {
    const std::string_view name = entry.name;
    const Tensor t = read_whole(reader, entry);
    if (name == kLogits) {
      logits = t;
    } else if (name == kTokens) {
      Tensor tokens = Tensor::empty(t.shape(), DType::i32, kCpu);
      for (int64_t i = 0; i < t.numel(); ++i) tokens.data<int32_t>()[i] = static_cast<int32_t>(t.data<float>()[i]);
      past.tokens().append(tokens);
    } else if (name.starts_with(kGrowing)) {
      past.growing(std::string(name.substr(std::string_view(kGrowing).size())), t.size(-1)).append(t);
    } else if (name.starts_with(kFixed)) {
      copy(t, past.state(std::string(name.substr(std::string_view(kFixed).size())), t.shape(), t.dtype()));
    }
  }
  const int64_t positions = past.tokens().size();
  bool whole = logits && logits.numel() == layers.config().vocab_size && positions > 0;
  for (const auto& [name, rows] : past.all_growing()) whole = whole && rows.size() == positions;
  if (!whole)
    refuse(cat(path.string(), " lacks what was kept of some of its ", positions, " positions"), kHints[0].second);
  return {layers, options, std::move(past), logits};
}

}  // namespace gf
