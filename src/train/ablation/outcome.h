// SPDX-License-Identifier: Apache-2.0
// What the runs of an ablation have come to so far: the numbers of each variant over its seeds, as a page with all
// losses on one plot and as CSV. Reads run folders; trains nothing.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "train/ablation/ablation.h"
#include "train/run_history.h"

namespace gf {

// Mean and standard deviation (of a sample: over n - 1) of those there are.
struct Spread {
  int64_t count = 0;
  double mean = 0;
  std::optional<double> deviation;  // of two and more
};
Spread spread_of(std::span<const double>);

// Whether a run's newest checkpoint is of its last step, so that there is nothing left to train.
bool is_trained(const std::filesystem::path& run_folder, int64_t last_step);
// What a run's folder tells of it. Refuses what cannot be read, and metrics that end before those of a run that is
// trained: of these losses nobody could say whose they are.
RunHistory history_of(const std::filesystem::path& run_folder, int64_t last_step);

struct VariantOutcome {
  std::string name;
  int64_t parameters = 0, runs = 0, done = 0;  // runs: as many as seeds; done: that have taken all their steps
  int64_t channel_width = 0;                   // of the lower layers' channel mixers
  double flops_per_token = 0, cache_bytes = 0;
  // Of the runs that are done: the last validation, and the mean over the last steps (RunSummary::final_loss).
  Spread val_loss{}, train_loss{};
  Spread tokens_per_s{};  // the mean of the runs' medians
  double peak_bytes = 0;  // the most of any of its processes; 0: not known
};

struct AblationOutcome {
  std::string name;
  std::vector<VariantOutcome> variants;
  std::vector<RunHistory> histories;  // of runs that have begun
  std::vector<size_t> series;         // of each, its variant
};

// `runs` are those of all variants and seeds; `last_steps` says of each when it is done. One that has begun and whose
// folder cannot be read is left out.
AblationOutcome outcome_of(const Ablation&, const std::vector<PlannedVariant>&, std::span<const AblationRun> runs,
                           std::span<const int64_t> last_steps, const LeftOut& left_out);

std::string csv_of(const AblationOutcome&);
std::string page_of(const AblationOutcome&);  // of at least one run that has begun

// A run's largest resident memory, kept beside its metrics, since whoever writes the report may not have run it.
void note_peak(const std::filesystem::path& run_folder, size_t bytes);

}  // namespace gf
