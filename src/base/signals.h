// SPDX-License-Identifier: Apache-2.0
// SIGTERM, SIGUSR1 (a scheduler's warning before its limit) and SIGHUP (the terminal is gone) ask for a stop after the
// current step; SIGINT does so once, and a second one ends the process at once. A signal that was ignored when the
// program began (nohup) stays so.
#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace gf {

class StopSignal {
 public:
  StopSignal();   // on the main thread: installs the handlers; at most one object at a time
  ~StopSignal();  // puts the previous handlers back
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  int received() const;      // the signal's number, 0 if none came
  std::string name() const;  // "SIGTERM"

 private:
  std::unique_ptr<std::byte[]> stack_;  // where the handler runs
};

}  // namespace gf
