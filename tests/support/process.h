// SPDX-License-Identifier: Apache-2.0
// One of the built programs as a process of its own, which a test can watch, send signals to and kill.
#pragma once
#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "support/run_program.h"
#include "support/temp_folder.h"

namespace gf {

class Process {
 public:
  // `program`: "gf", "gf-dist-train", or a path. `environment` goes over the test's own. It reads `input` to its end.
  Process(const std::string& program, const std::vector<std::string>& arguments,
          const std::map<std::string, std::string>& environment = {}, const std::string& input = {});
  ~Process();  // kills what still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal);  // nothing where it has ended
  std::vector<pid_t> children() const;
  bool running();
  // Looks again and again until `holds`. False where the process ended without that, or two minutes went by.
  bool wait_until(const std::function<bool()>& holds);
  // To the end; what does not end in two minutes is killed, and seen as such in the status.
  ProgramResult wait();
  std::string out() const;  // what it wrote so far

 private:
  TempFolder folder_;
  pid_t pid_ = 0;
  bool ended_ = false;
  int status_ = 0;
};

}  // namespace gf
