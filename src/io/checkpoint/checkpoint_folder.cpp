// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/error.h"
#include "io/checkpoint/checkpoint_index.h"
#include "io/checkpoint/index_seal.h"
#include "io/files.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kStepPrefix = "step-", kPartialSuffix = ".partial";

// The number that the text begins with, which goes off it; -1: none.
int64_t take_number(std::string_view& text) {
  int64_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return -1;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::optional<int64_t> step_of(std::string_view name) {
  if (!take(name, kStepPrefix)) return {};
  const int64_t step = take_number(name);
  return step >= 0 && name.empty() ? std::optional(step) : std::nullopt;
}

bool is_part_file_name(std::string_view name) {
  std::string_view rest = name;
  if (!take(rest, "part-")) return false;
  const int64_t part = take_number(rest);
  if (!take(rest, "-of-")) return false;
  const int64_t parts = take_number(rest);
  return part >= 0 && parts >= 0 && name == part_file_name(part, parts);
}

// Nobody may take a file system that is away for a moment for one without checkpoints.
[[noreturn]] void fail_to_look(const fs::path& path, const std::error_code& error) {
  fail(cat("cannot look at ", path.string(), ": ", error.message()),
       "the same command again, when the file system answers");
}

std::vector<StepFolder> step_folders(const fs::path& folder) {
  std::vector<StepFolder> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (const auto step = step_of(it->path().filename().string())) found.push_back({*step, it->path()});
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory)
    fail_to_look(folder, error);
  std::ranges::sort(found, {}, &StepFolder::step);
  return found;
}

bool is_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::status_known(status)) fail_to_look(path, error);
  return fs::is_regular_file(status);
}

bool is_complete(const fs::path& folder) {
  return is_file(folder / kDoneFile) && is_file(folder / kIndexFile);
}

// Of what is there and no save has made, what is to be told; empty: nothing.
std::string foreign_to_saves(const fs::path& folder) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(folder, error);
  if (fs::is_symlink(status)) return "is a symbolic link";
  if (!fs::is_directory(status)) return "is no folder";
  fs::directory_iterator it(folder, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool ours = name == kIndexFile || name == kDoneFile || is_part_file_name(name);
    std::error_code none;
    if (!ours || !fs::is_regular_file(it->symlink_status(none)))
      return cat("holds ", name, ours ? ", which is no regular file" : ", which is of no checkpoint");
  }
  return error ? "cannot be read: " + error.message() : "";
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
    refuse(cat("there is no checkpoint at ", path.string(), ": ", error ? error.message() : "no such file or folder"),
           kWhatItMayBe);
  const auto complete_index = [](const fs::path& folder, const fs::path& index) {
    if (!fs::exists(folder / kDoneFile))
      refuse(cat(folder.string(), " has no ", kDoneFile, ": writing this checkpoint was never finished"),
             "another step folder beside it");
    return index;
  };
  if (!fs::is_directory(path) && path.extension() != ".h5")
    refuse(path.string() + " is no checkpoint: its name does not end in .h5", kWhatItMayBe);
  if (!fs::is_directory(path)) {
    // Of another program's file nobody has promised a DONE beside it.
    if (!begins_as_checkpoint(path))
      refuse(cat(path.string(), " is no checkpoint: it does not begin with ", kCheckpointFormat), kWhatItMayBe);
    return complete_index(path.has_parent_path() ? path.parent_path() : ".", path);
  }
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
    const bool named = step && name == step_folder_name(*step);
    const auto has_no_done = [&] {  // for certain
      std::error_code none;
      return fs::status(it->path() / kDoneFile, none).type() == fs::file_type::not_found;
    };
    if (named && (partial || has_no_done())) remnants.push_back(it->path());
  }
  for (const fs::path& remnant : remnants) remove_step_folder(remnant);
}

std::string remove_step_folder(const fs::path& folder) {
  std::error_code none;
  if (!fs::exists(fs::symlink_status(folder, none))) return "";
  if (std::string reason = foreign_to_saves(folder); !reason.empty()) return reason;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  remove_durably(folder / kDoneFile);
  for (const fs::path& file : files) remove_name(file);
  remove_durably(folder);
  return "";
}

std::string make_way(const fs::path& step_folder) {
  const std::string reason = remove_step_folder(step_folder);
  if (reason.empty()) return "";
  fs::path aside;
  std::error_code none;
  for (int n = 1; aside.empty() || fs::exists(fs::symlink_status(aside, none)); ++n)
    aside = cat(step_folder.string(), ".aside-", n);
  rename_durably(step_folder, aside);
  return cat(step_folder.string(), " ", reason, ": it was in the way of a save, and is ", aside.string(), " now");
}

}  // namespace gf
