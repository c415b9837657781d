// SPDX-License-Identifier: Apache-2.0
// What a model has read, in a file: a long text is read once and gone on from many times. A .safetensors file of
// float32 (tokens are exact in it), whose metadata says of which model and build it is. A digest covers all of it.
#pragma once
#include <filesystem>

#include "io/partial_file.h"
#include "train/decoder.h"

namespace gf {

void write_past(PartialFile&, const StatefulDecoder&);  // and publishes it
// Refuses a file of another model, other options of the Past or another build, one that was changed, and one that takes
// more memory than there is.
StatefulDecoder read_past(const std::filesystem::path&, const LayerStack&, StatefulDecoder::Options);

}  // namespace gf
