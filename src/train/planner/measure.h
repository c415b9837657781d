// SPDX-License-Identifier: Apache-2.0
// This machine as a hardware file: what the ranks that were started reach, all at once, with the layers of one model.
#pragma once
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "train/config.h"
#include "train/planner/hardware.h"

namespace gf {

// Collective; all ranks get the same: means over the ranks. `nodes`: where each of them runs. Takes a few seconds, more
// where a pass of the model does.
Hardware measure_hardware(const Config&, Communicator& world, const std::vector<std::string>& nodes);

}  // namespace gf
