// SPDX-License-Identifier: Apache-2.0
// What a model has read, in a file: a long text is read once and gone on from many times. A .safetensors file of
// float32 (tokens are exact in it), whose metadata says of which model and build it is. A digest covers all of it.
#pragma once
#include <filesystem>
#include <map>
#include <string>

#include "io/partial_file.h"
#include "train/decoder.h"

namespace gf {

// What goes on from such a file.
struct KeptText {
  StatefulDecoder decoder;
  std::string begun;  // what was not shown at its end: of a character, or of a stop text (Generation::begun)
};

void write_past(PartialFile&, const StatefulDecoder&, const std::string& begun = {});  // and publishes it
// Refuses a file of another model, other options of the Past or another build, one that was changed, one that takes
// more memory than there is, and, as anyone can compute a digest, one that does not hold what the model keeps.
KeptText read_past(const std::filesystem::path&, const LayerStack&, StatefulDecoder::Options);

// The last of these steps, for a file whose metadata is right: its tensors, by name, and how many `positions` it says
// that it is of. `file` stands for it in messages.
StatefulDecoder decoder_of(const std::map<std::string, Tensor>& tensors, const std::string& positions,
                           const std::string& file, const LayerStack&, StatefulDecoder::Options);

}  // namespace gf
