// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/same_run.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "base/yaml.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/files.h"
#include "io/run_folder.h"

namespace gf {
namespace {

// Of the section train: what changes no number of a run but by rounding, or is compared below.
constexpr std::string_view kFree[] = {"change_data",      "data_type",
                                      "proj_dir",         "proj_name",
                                      "proj_suffix",      "wandb",
                                      "epoch_save",       "save_every_steps",
                                      "keep_checkpoints", "save_every_minutes",
                                      "max_minutes",      "log_every_n_steps",
                                      "micro_bsz",        "devices",
                                      "num_nodes",        "accumulate_grad_batches",
                                      "max_steps",        "accelerator",
                                      "precision",        "strategy",
                                      "ds_bucket_mb",     "grad_cp",
                                      "product_choices"};

bool counts(std::string_view key) {
  constexpr std::string_view kTrain = "train.";
  return key.starts_with("model.") ||
         (key.starts_with(kTrain) && std::ranges::count(kFree, key.substr(kTrain.size())) == 0);
}

// Of the newest checkpoint. A run that trains at this moment removes one once it has a newer one.
std::optional<Attributes> newest_attributes(const std::filesystem::path& checkpoints) {
  while (const auto newest = newest_checkpoint(checkpoints)) {
    try {
      return CheckpointReader(newest->path).attributes();
    } catch (const Error&) {
      const auto now = newest_checkpoint(checkpoints);
      if (now && now->step == newest->step) throw;
    }
  }
  return std::nullopt;
}

// The configuration; empty where there is no run.
std::string config_in(const RunPaths& paths, const std::optional<Attributes>& newest) {
  if (std::filesystem::exists(paths.config())) return read_small_file(paths.config(), kLongestYaml);
  return newest ? newest->config : "";
}

std::string to_begin_anew(const std::filesystem::path& folder) {
  return cat("remove ", folder.string(), " to train it anew");
}

}  // namespace

std::optional<RunThere> run_in(const std::filesystem::path& folder) {
  const RunPaths paths(folder);
  try {
    RunThere run{{}, newest_attributes(paths.checkpoints())};
    const std::string text = config_in(paths, run.newest);
    if (text.empty()) return std::nullopt;
    run.config = config_from_text(text, paths.config().string());
    return run;
  } catch (const Error& e) {
    const std::string own = e.hint().empty() ? "" : e.hint() + "; or ";
    throw Error(e.what(), own + to_begin_anew(folder), e.status(), e.where());
  }
}

void check_same_run(const RunThere& run, const std::filesystem::path& folder, const Config& asked,
                    const TrainingData* data, int64_t last_step) {
  const auto& [then, newest] = run;
  std::vector<Difference> all = differences(asked, then, counts);
  const auto compare = [&](const char* what, const auto& now, const auto& before) {
    if (now != before) all.push_back({what, cat(now), cat(before)});
  };
  const TrainConfig &mine = asked.train, &theirs = then.train;
  compare("num_nodes * devices * micro_bsz * accumulate_grad_batches", mine.global_batch(), theirs.global_batch());
  // Where nobody says, it follows from the machine, which need not be this one.
  if (mine.accelerator.value_or("") == theirs.accelerator.value_or(""))
    compare("train.precision", mine.precision.value_or("auto"), theirs.precision.value_or("auto"));
  const std::string hint = cat("another --train.proj_dir or name of the ablation's file; or ", to_begin_anew(folder));
  if (!all.empty())
    refuse(cat(all[0].key, " is ", all[0].now, ", and the run in ", folder.string(), " was begun with ", all[0].then),
           hint);
  // Files may be others under the same names. Of what a run without a checkpoint has read nothing is known.
  const std::string read = data && newest && !newest->data.empty() ? data->difference(newest->data) : "";
  if (!read.empty())
    refuse(cat("train.data_file: ", read, " when the run in ", folder.string(), " read it"),
           cat("the data as it was; or ", hint));
  if (newest && newest->step > last_step)
    refuse(cat("a run is to end at step ", last_step, ", and the run in ", folder.string(), " is at step ",
               newest->step, " already"),
           cat("more --train.max_steps; ", hint));
}

}  // namespace gf
