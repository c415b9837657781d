// SPDX-License-Identifier: Apache-2.0
// Whether what lies in a run folder is the run that is asked for, and not one of other settings under the same name.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>

#include "io/checkpoint/checkpoint_index.h"
#include "io/data/training_data.h"
#include "train/config.h"

namespace gf {

// What a run folder says of the run in it.
struct RunThere {
  Config config;                     // that it was begun with
  std::optional<Attributes> newest;  // of its newest checkpoint
};
// Nothing where there is no run. Refuses what cannot be read.
std::optional<RunThere> run_in(const std::filesystem::path& folder);

// Refuses a folder whose run was begun with another model, data, batch, schedule or validation, as its config.yaml
// has them, has read other tokens than `data` has, as its newest checkpoint says, or has gone beyond `last_step`. What
// says only where it runs, on how many ranks, and how often it saves and logs may differ. `asked` and `data` as Plan
// has them.
void check_same_run(const RunThere&, const std::filesystem::path& folder, const Config& asked, const TrainingData* data,
                    int64_t last_step);

}  // namespace gf
