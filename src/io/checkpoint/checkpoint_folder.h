// SPDX-License-Identifier: Apache-2.0
// Names and states of what lies in a run's checkpoints folder: step-00000100/ with checkpoint.h5, one part file per
// rank that wrote it, and DONE. A folder without DONE does not exist for a reader.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace gf {

inline constexpr const char* kIndexFile = "checkpoint.h5";
inline constexpr const char* kDoneFile = "DONE";

std::string step_folder_name(int64_t step);               // step-00000100
std::string part_file_name(int64_t part, int64_t parts);  // part-00003-of-00008.h5

struct StepFolder {
  int64_t step;
  std::filesystem::path path;
};
// Oldest first; none where there is no such folder. Fails where it cannot be seen what there is.
std::vector<StepFolder> complete_checkpoints(const std::filesystem::path& folder);
std::optional<StepFolder> newest_checkpoint(const std::filesystem::path& folder);

// The checkpoint.h5 that a path given by a user means: itself, or that of a step folder, or the newest of a checkpoints
// folder or a run folder. What is not complete is refused.
std::filesystem::path find_checkpoint(const std::filesystem::path&);

// Removes a step folder, whole or not: DONE goes first, so that one which is half removed is none. Only what a save
// makes is ever removed, and nothing through a link: with anything else in it, or where the name is no folder's, all
// stays as it is. -> the reason; empty: there is nothing of this name now.
std::string remove_step_folder(const std::filesystem::path&);

// Makes the name of a step folder free: what is not ours to remove gets another name. -> what is to be told of that.
std::string make_way(const std::filesystem::path& step_folder);

// Removes what an interrupted save or an interrupted removal left behind: step-N.partial, and step folders that are
// known to have no DONE.
void remove_remnants(const std::filesystem::path& folder);

}  // namespace gf
