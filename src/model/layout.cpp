// SPDX-License-Identifier: Apache-2.0
#include "model/layout.h"

#include "base/error.h"

namespace gf {
namespace {

constexpr LayerFields kEmbedFields{0, kX | kOrigin}, kCompressFields{kX, kCompressed}, kHeadFields{kX, 0};
constexpr LayerFields kExpandFields{kOrigin | kCompressed, kExpanded};

// What the layers [begin, end) read of what lies below them.
Fields wanted_by(const std::vector<LayerSpec>& layers, size_t begin, size_t end) {
  Fields wanted = 0;
  for (size_t i = end; i-- > begin;)
    wanted = layers[i].fields.reads | static_cast<Fields>(wanted & ~layers[i].fields.writes);
  return wanted;
}

}  // namespace

std::string LayerSpec::name() const {
  switch (kind) {
    case Kind::embed:
      return "embed";
    case Kind::block:
      return cat("blocks.", block);
    case Kind::key_compress:
      return "key_compress";
    case Kind::key_expand:
      return "key_expand";
    case Kind::head:
      return "head";
  }
  return {};
}

std::vector<LayerSpec> layout_of(const ModelConfig& config) {
  using Kind = LayerSpec::Kind;
  std::vector<LayerSpec> layers{{Kind::embed, -1, kEmbedFields}};
  for (int64_t i = 0; i < config.n_layer; ++i) {
    const bool gold = config.time_mix(i) == "gold";
    if (gold && i == config.first_upper()) {
      layers.push_back({Kind::key_compress, -1, kCompressFields});
      layers.push_back({Kind::key_expand, -1, kExpandFields});
    }
    layers.push_back({Kind::block, i, {static_cast<Fields>(gold ? kX | kExpanded : kX), kX}});
  }
  layers.push_back({Kind::head, -1, kHeadFields});
  return layers;
}

Fields live_at(const std::vector<LayerSpec>& layers, size_t cut) {
  GF_CHECK(cut <= layers.size(), "cut ", cut, " of ", layers.size(), " layers");
  Fields written = 0;
  for (size_t i = 0; i < cut; ++i) written |= layers[i].fields.writes;
  Fields wanted = wanted_by(layers, cut, layers.size());
  if (wanted & written & kExpanded) wanted |= kExpandFields.reads;
  return written & wanted & static_cast<Fields>(~kExpanded);
}

Fields trained_below(const std::vector<LayerSpec>& layers, const std::vector<bool>& trains, size_t cut) {
  Fields trained = 0;
  for (size_t i = 0; i < cut; ++i) {
    const auto [reads, writes] = layers[i].fields;
    trained = trains[i] || (reads & trained) ? trained | writes : trained & static_cast<Fields>(~writes);
  }
  return trained;
}

Fields trained_at(const std::vector<LayerSpec>& layers, const std::vector<bool>& trains, size_t cut) {
  return live_at(layers, cut) & trained_below(layers, trains, cut);
}

bool expands_anew(const std::vector<LayerSpec>& layers, size_t begin, size_t end) {
  return wanted_by(layers, begin, end) & kExpanded;
}

std::vector<LayerSpec> stage_layers(const std::vector<LayerSpec>& layers, size_t begin, size_t end) {
  GF_CHECK(begin < end && end <= layers.size(), "a stage of layers ", begin, " to ", end, " of ", layers.size());
  std::vector<LayerSpec> stage(layers.begin() + static_cast<int64_t>(begin),
                               layers.begin() + static_cast<int64_t>(end));
  if (expands_anew(layers, begin, end)) stage.insert(stage.begin(), {LayerSpec::Kind::key_expand, -1, kExpandFields});
  return stage;
}

}  // namespace gf
