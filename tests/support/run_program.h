// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <string>
#include <vector>

namespace gf {

struct ProgramResult {
  int status;  // 128 + signal where one ended it
  std::string out, err;
};

// Runs one of the built programs ("gf", "gf-dist-train") to its end, with these changes to the environment and this on
// its standard input.
ProgramResult run_program(const std::string& name, const std::vector<std::string>& arguments,
                          const std::map<std::string, std::string>& environment = {}, const std::string& input = {});

// Likewise, with what a shell makes of this behind the command: "2>/dev/full", "<&- >&- 2>&-", "| true".
ProgramResult run_with_streams(const std::string& streams, const std::string& name,
                               const std::vector<std::string>& arguments);

}  // namespace gf
