// SPDX-License-Identifier: Apache-2.0
// Whether what lies in a run folder is the run that is asked for, and not one of other settings under the same name.
#pragma once
#include <cstdint>
#include <filesystem>

#include "io/data/training_data.h"
#include "train/config.h"

namespace gf {

// Refuses a folder whose run was begun with another model, data, batch, schedule or validation, as its config.yaml
// has them, has read other tokens than `data` has, as its newest checkpoint says, or has gone beyond `last_step`. What
// says only where it runs, on how many ranks, and how often it saves and logs may differ. `asked` and `data` as Plan
// has them. A folder without a run is fine.
void check_same_run(const std::filesystem::path& folder, const Config& asked, const TrainingData* data,
                    int64_t last_step);

}  // namespace gf
