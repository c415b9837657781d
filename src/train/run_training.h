// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/error.h"
#include "train/config.h"

namespace gf {

// A training run from banner to last checkpoint; what gf-dist-train does. done, or stopped_early after a signal.
Exit run_training(Config);

}  // namespace gf
