// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/error.h"
#include "io/files.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kStepPrefix = "step-", kPartialSuffix = ".partial";

std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return {};
  name.remove_prefix(kStepPrefix.size());
  int64_t step = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size() || step < 0) return {};
  return step;
}

std::vector<StepFolder> step_folders(const fs::path& folder) {
  std::vector<StepFolder> found;
  std::error_code error;  // no such folder, no checkpoints
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (const auto step = step_of(it->path().filename().string())) found.push_back({*step, it->path()});
  std::ranges::sort(found, {}, &StepFolder::step);
  return found;
}

bool is_complete(const fs::path& folder) {
  std::error_code error;
  return fs::is_regular_file(folder / kDoneFile, error) && fs::is_regular_file(folder / kIndexFile, error);
}

// What removes things must not meet a user's own folder of a similar name.
bool holds_only_our_files(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool part = name.starts_with("part-") && name.ends_with(".h5");
    if (!part && name != kIndexFile && name != kDoneFile) return false;
  }
  return !error;
}

}  // namespace

std::string step_folder_name(int64_t step) {
  return fmt::format("{}{:08}", kStepPrefix, step);
}

std::string part_file_name(int64_t part, int64_t parts) {
  return fmt::format("part-{:05}-of-{:05}.h5", part, parts);
}

std::vector<StepFolder> complete_checkpoints(const fs::path& folder) {
  std::vector<StepFolder> found = step_folders(folder);
  std::erase_if(found, [](const StepFolder& f) { return !is_complete(f.path); });
  return found;
}

std::optional<StepFolder> newest_checkpoint(const fs::path& folder) {
  const std::vector<StepFolder> found = complete_checkpoints(folder);
  return found.empty() ? std::nullopt : std::optional(found.back());
}

fs::path find_checkpoint(const fs::path& path) {
  std::error_code error;
  constexpr const char* kWhatItMayBe = "a run folder, its checkpoints folder, a step folder, or a checkpoint.h5";
  if (!fs::exists(path, error))
    refuse(cat("there is no checkpoint at ", path.string(), ": no such file or folder"), kWhatItMayBe);
  const auto complete_index = [](const fs::path& folder, const fs::path& index) {
    if (!fs::exists(folder / kDoneFile))
      refuse(cat(folder.string(), " has no ", kDoneFile, ": writing this checkpoint was never finished"),
             "another step folder beside it");
    return index;
  };
  if (!fs::is_directory(path) && path.extension() != ".h5")
    refuse(path.string() + " is no checkpoint: its name does not end in .h5", kWhatItMayBe);
  if (!fs::is_directory(path)) return complete_index(path.parent_path(), path);
  if (fs::exists(path / kIndexFile)) return complete_index(path, path / kIndexFile);
  for (const fs::path& folder : {path / "checkpoints", path})
    if (const auto newest = newest_checkpoint(folder)) return newest->path / kIndexFile;
  refuse(cat("there is no complete checkpoint in ", path.string(), ": neither ", kIndexFile, " nor step-*/", kDoneFile),
         kWhatItMayBe);
}

void remove_remnants(const fs::path& folder) {
  std::vector<fs::path> remnants;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    const bool partial = name.ends_with(kPartialSuffix);
    if (partial) name.resize(name.size() - kPartialSuffix.size());
    const auto step = step_of(name);
    const bool ours = step && name == step_folder_name(*step) && holds_only_our_files(it->path());
    if (ours && (partial || !fs::exists(it->path() / kDoneFile))) remnants.push_back(it->path());
  }
  for (const fs::path& remnant : remnants) remove_all_durably(remnant);
}

void remove_checkpoint(const fs::path& step_folder) {
  remove_all_durably(step_folder / kDoneFile);
  remove_all_durably(step_folder);
}

}  // namespace gf
