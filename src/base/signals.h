// SPDX-License-Identifier: Apache-2.0
// SIGTERM and SIGUSR1 (a scheduler's warning before its limit) ask for a stop after the current step;
// SIGINT does so once, and a second one ends the process at once.
#pragma once
#include <cstddef>
#include <memory>

namespace gf {

class StopSignal {
 public:
  StopSignal();   // on the main thread: installs the handlers; at most one object at a time
  ~StopSignal();  // puts the previous handlers back
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  int received() const;  // the signal's number, 0 if none came

 private:
  std::unique_ptr<std::byte[]> stack_;  // where the handler runs
};

}  // namespace gf
