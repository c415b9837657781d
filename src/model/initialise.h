// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>

#include "model/parameter.h"

namespace gf {

// As initialise() of parameter.h. `made_one` is called after each parameter, on any thread.
void initialise(const ParameterStore&, uint64_t seed, const std::function<void()>& made_one);

}  // namespace gf
