// SPDX-License-Identifier: Apache-2.0
#include "support/run_program.h"

#include "support/process.h"

namespace gf {

ProgramResult run_program(const std::string& name, const std::vector<std::string>& arguments,
                          const std::map<std::string, std::string>& environment, const std::string& input) {
  return Process(name, arguments, environment, input).wait();
}

}  // namespace gf
