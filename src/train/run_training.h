// SPDX-License-Identifier: Apache-2.0
// A training run from its configuration to its exit status, with all that a person sees of it.
#pragma once
#include "base/error.h"
#include "parallel/communicator_mpi.h"
#include "train/config.h"

namespace gf {

// On all ranks of the world. `dry`: ends before anything is made, with all said that is known by then. An AgreedError
// leaves all of them alike; after any other error the rest must be ended.
Exit run_training(const Config&, const World&, bool dry = false);

}  // namespace gf
