// SPDX-License-Identifier: Apache-2.0
#include "base/waiting_threads.h"

#include <unistd.h>

#include <cstdlib>

namespace gf {

void let_waiting_threads_sleep(char** argv) {
  constexpr const char* kSpinCount = "GOMP_SPINCOUNT";
  constexpr const char* kShortly = "1000";  // some microseconds
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv(kSpinCount)) return;
  // Where either fails it waits as it did.
  if (::setenv(kSpinCount, kShortly, 0) == 0) ::execv("/proc/self/exe", argv);
}

}  // namespace gf
