// SPDX-License-Identifier: Apache-2.0
// How a run's layers are cut where its configuration leaves that open.
#pragma once
#include <optional>

#include "train/build.h"
#include "train/planner/hardware.h"

namespace gf {

// Collective; all ranks cut alike. `room`: bytes that a rank may still get, of any rank. `hardware`: that of
// parallel.hardware. A cut that another start might not find again, because it comes from a measurement or from the
// memory that there is, becomes the plan's parallel.partition, and so part of the run: where its newest checkpoint has
// one for as many stages, and it fits, the run keeps it.
void settle_partition(Plan&, Communicator& world, size_t room, const Hardware* hardware);

}  // namespace gf
