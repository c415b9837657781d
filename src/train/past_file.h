// SPDX-License-Identifier: Apache-2.0
// What a model has read, in a file: a long text is read once and gone on from many times. A .safetensors file of
// float32 (tokens are exact in it), whose metadata says of which model and build it is.
#pragma once
#include <filesystem>

#include "train/decoder.h"

namespace gf {

void write_past(const std::filesystem::path&, const StatefulDecoder&);
// Refuses a file of another model, other options of the Past or another build.
StatefulDecoder read_past(const std::filesystem::path&, const LayerStack&, StatefulDecoder::Options);

}  // namespace gf
