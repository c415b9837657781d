// SPDX-License-Identifier: Apache-2.0
// What train.load_partial makes of a checkpoint, for a person: how much of it was taken, and which of its mixers were
// not, because the layer that is now in their place is another.
#pragma once
#include <string>
#include <vector>

#include "io/checkpoint/tensor_source.h"
#include "model/config.h"

namespace gf {

// To stand behind the checkpoint's name: ": 678 of 808 tensors, fresh ones for those it lacks".
std::string taken_from(const TensorSource&, const ModelConfig&);
// A line for each kind of layer that has no place for tensors of the mixers that the checkpoint has there; with what
// would keep them, where all of the checkpoint's layers could lie below the upper ones.
std::vector<std::string> dropped_mixers(const TensorSource&, const ModelConfig&);

}  // namespace gf
