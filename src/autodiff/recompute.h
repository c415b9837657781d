// SPDX-License-Identifier: Apache-2.0
// Recompute (gradient checkpointing): keeps only the inputs of a piece of the model and runs it again in the
// backward pass. The piece must be a pure function of its inputs, the parameters it uses, and counters.
#pragma once
#include "autodiff/tape.h"

namespace gf {

using Piece = std::function<std::vector<Var>(Tape&, std::span<const Var> inputs)>;

// `trains`: parameters inside want gradients, even where no input does.
std::vector<Var> recompute(Tape&, std::span<const Var> inputs, Piece, bool trains = true);

}  // namespace gf
