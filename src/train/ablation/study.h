// SPDX-License-Identifier: Apache-2.0
// The runs of an ablation, those that are asked for and those that are there beside them, each made ready and checked.
// Nothing is written and nothing trained.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "train/ablation/ablation.h"

namespace gf {

// What is compared.
struct Study {
  Ablation ablation;
  std::vector<PlannedVariant> planned;
  ConfigParts base;
  bool has_data = true;  // false: nothing that depends on the data is known or checked, and nothing can be trained

  std::filesystem::path folder() const { return folder_of(ablation, planned[0].config); }
};

// Which runs are asked for.
struct WantedRuns {
  std::vector<std::string> variants;  // by name; empty: all
  std::vector<int64_t> seeds;         // empty: those of the ablation's file
};

// A run with what its data makes of it.
struct PreparedRun {
  AblationRun run;
  int64_t last_step = 0;
  std::filesystem::path folder{};
  bool wanted = true;

  std::string name() const { return folder.filename().string(); }
};

// Of all variants, from the seeds of the file and the wanted ones, and what is there beside them. Refuses what could
// not be trained, what is there as another run, and of the wanted ones what is there and cannot be read; what is not
// wanted and cannot be read is left out.
std::vector<PreparedRun> prepare_runs(const Study&, const WantedRuns&, const LeftOut&);
// Those that others have begun meanwhile. What is another run is left out, for the rest of the report is right.
std::vector<PreparedRun> begun_since(const Study&, const std::vector<PreparedRun>& known, const LeftOut&);

}  // namespace gf
