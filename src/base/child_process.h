// SPDX-License-Identifier: Apache-2.0
// Another program, run to its end with its output in a file. Its arguments go to it as they are: no shell sees them.
// Where this process is asked to stop, or dies, the other one is asked too.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/signals.h"

namespace gf {

struct ChildResult {
  int status = 0;         // as a shell tells it: 128 + n where signal n ended it
  size_t peak_bytes = 0;  // the most that was resident
};

// Appends standard output and errors to `log`, a regular file and no symbolic link. The program is a path.
ChildResult run_child(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                      const std::filesystem::path& log, const StopSignal&);

// A program that lies beside this one.
std::filesystem::path program_beside(const std::string& name);

}  // namespace gf
