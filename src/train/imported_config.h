// SPDX-License-Identifier: Apache-2.0
// The configuration of weights that another program wrote: as their file carries it, or as files beside it have it.
#pragma once
#include <span>
#include <string>

#include "io/checkpoint/tensor_source.h"

namespace gf {

struct ImportedConfig {
  std::string text;              // one as it was written, several as one; empty where nobody says
  bool describes_model = false;  // else open_model() will not take a checkpoint with it
};

// Later files go over earlier ones; without files that of the weights counts, whose own file is `in`. Refuses what is
// no configuration, or not the one of these weights.
ImportedConfig imported_config(const std::string& in, std::span<const std::string> files, const TensorSource&);

}  // namespace gf
