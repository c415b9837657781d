// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

namespace gf {

struct ProgramResult {
  int status;  // 128 + signal where one ended it
  std::string out, err;
};

// Runs one of the built programs ("gf", "gf-dist-train") to its end.
ProgramResult run_program(const std::string& name, const std::vector<std::string>& arguments);

}  // namespace gf
