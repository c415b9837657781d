// SPDX-License-Identifier: Apache-2.0
// What a run folder tells about a run: its configuration and its metrics, and from these the final numbers and
// curves thin enough to draw. Reads only; a run that still trains can be looked at.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/metrics.h"
#include "parallel/timeline.h"
#include "train/position_losses.h"

namespace gf {

struct RunHistory {
  std::string name;  // the folder's name
  std::filesystem::path folder;
  std::string config_text;                    // config.yaml as it stands, empty where there is none
  std::map<std::string, std::string> config;  // the same as "train.lr_init" -> "0.001"
  std::optional<int64_t> parameters;          // of the model that config.yaml describes, where it does
  std::vector<StepMetrics> steps;             // without those that were skipped
  std::vector<StepMetrics> skipped;           // their losses are no result; a validation after one is
  std::optional<TracedRun> trace;             // of some steps, where there is one
  std::string trace_note;                     // why a trace that there is cannot be shown
  std::vector<PositionLosses> positions;      // of positions.jsonl, where there is one
};

// Refuses a folder without a metrics file, and files that cannot be understood.
RunHistory load_run(const std::filesystem::path& folder);

struct RunSummary {
  int64_t steps = 0, tokens = 0;     // done so far, skipped ones too: the run moves on by them
  std::optional<double> final_loss;  // mean of the last `loss_steps` steps that were not skipped
  int64_t loss_steps = 0;            // 100, or all there are
  std::optional<double> best_val_loss, last_val_loss, last_val_acc;
  double tokens_per_s = 0;  // median of those steps, 0 where there are none
  double seconds = 0;       // sum over the steps: without start-up, validations and saves
};

RunSummary summarize(const RunHistory&);

// A quantity over a run in at most as many rows as asked for. A row stands for a stretch of steps: the smoothed
// value at its end, and the least and largest raw value within, so that no spike is lost.
struct Curve {
  std::vector<double> smooth, low, high;
};

struct Curves {
  std::vector<int64_t> step, tokens;  // at the end of each stretch
  std::vector<double> seconds, lr;
  Curve loss, grad_norm, tokens_per_s;
};

struct Validations {
  std::vector<int64_t> step, tokens;
  std::vector<double> seconds, loss;
  std::vector<std::optional<double>> accuracy;
};

// Half of the rows are spread evenly and half by equal ratios, for a logarithmic axis. Smoothing is a mean with
// weights that fall by 1/e over one percent of all steps, or a fiftieth of those so far if that is less.
Curves curves(const RunHistory&, int64_t max_rows);

// Every validation, or where there are too many every second, third, ..., the last always among them.
Validations validations(const RunHistory&, int64_t max_rows);

}  // namespace gf
