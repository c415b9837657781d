// SPDX-License-Identifier: Apache-2.0
#include "support/run_program.h"

#include "support/process.h"

namespace gf {

ProgramResult run_program(const std::string& name, const std::vector<std::string>& arguments,
                          const std::map<std::string, std::string>& environment, const std::string& input) {
  return Process(name, arguments, environment, input).wait();
}

ProgramResult run_with_streams(const std::string& streams, const std::string& name,
                               const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"-c", "set -o pipefail; \"$@\" " + streams, "bash", GF_BIN_DIR "/" + name};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_program("/bin/bash", words);
}

}  // namespace gf
