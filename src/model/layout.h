// SPDX-License-Identifier: Apache-2.0
// A model as a list of layers, lowest first, and what flows between them. What crosses a cut between two pipeline
// stages is worked out from what layers read and write, never assumed.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace gf {

// Parts of a Flow (model/layer.h), as a set.
using Fields = uint8_t;
inline constexpr Fields kX = 1;           // the residual stream
inline constexpr Fields kOrigin = 2;      // the embedded input
inline constexpr Fields kCompressed = 4;  // the compressed keys
inline constexpr Fields kExpanded = 8;    // keys and values made again from the two above; never crosses a cut

struct LayerFields {
  Fields reads = 0, writes = 0;
};

struct LayerSpec {
  enum class Kind : uint8_t { embed, block, key_compress, key_expand, head } kind;
  int64_t block = -1;  // which one, for Kind::block
  LayerFields fields;
  std::string name() const;  // "embed", "blocks.3", "key_compress", ...
};

// embed, the blocks, before the first GOLD block key_compress and key_expand, head.
std::vector<LayerSpec> layout_of(const ModelConfig&);

// What must cross the cut below layer `cut`: written below it and read at or above it before being written again.
// Where expanded keys would have to cross, their makings do instead: the stage above expands them again.
Fields live_at(const std::vector<LayerSpec>&, size_t cut);

// Of all fields, and of those: what depends on a parameter that is trained, and so has a gradient there. `trains` says
// which layers have one.
Fields trained_below(const std::vector<LayerSpec>&, const std::vector<bool>& trains, size_t cut);
Fields trained_at(const std::vector<LayerSpec>&, const std::vector<bool>& trains, size_t cut);

// Whether the layers [begin, end) as one stage need expanded keys that none of them makes.
bool expands_anew(const std::vector<LayerSpec>&, size_t begin, size_t end);
// The layers [begin, end) as one stage, with a key_expand of its own in front where it needs one.
std::vector<LayerSpec> stage_layers(const std::vector<LayerSpec>&, size_t begin, size_t end);

}  // namespace gf
