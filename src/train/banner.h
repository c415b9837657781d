// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "parallel/gpu_of_rank.h"
#include "parallel/placement.h"
#include "train/build.h"
#include "train/memory.h"

namespace gf {

// What a person wants to know before the first step: the resolved configuration, parameters by kind of layer,
// memory, tokens and steps to come, and how the ranks share the work. `forecast` is the first rank's; `gpu`
// too, null where layers run on the CPU.
std::string banner(const Plan&, const MemoryForecast&, const Placement&, const GpuShare* gpu);

}  // namespace gf
