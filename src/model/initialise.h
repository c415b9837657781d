// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>

#include "model/parameter.h"

namespace gf {

// Fresh values for all parameters, from their specs. `made_one` is called after each parameter, on any thread; on a CPU
// its values are in their place then.
void initialise(const ParameterStore&, uint64_t seed, const std::function<void(const Parameter&)>& made_one = {});
// For measuring alone: small numbers of both signs, norms near 1. Nothing overflows and nothing is zero, and it does
// not take as long as orthogonal matrices.
void initialise_roughly(const ParameterStore&);

}  // namespace gf
