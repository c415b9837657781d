// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "train/build.h"
#include "train/memory.h"

namespace gf {

// What a person wants to know before the first step: the resolved configuration, parameters by kind of layer,
// memory, tokens and steps to come.
std::string banner(const Plan&, const MemoryForecast&);

}  // namespace gf
