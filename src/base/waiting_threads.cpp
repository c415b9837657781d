// SPDX-License-Identifier: Apache-2.0
#include "base/waiting_threads.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace gf {
namespace {

// As in `ld.so PROGRAM`: then the loader is what would begin anew.
bool begun_by_loader() {
  std::error_code none;
  const std::string name = std::filesystem::read_symlink("/proc/self/exe", none).filename();
  return name.starts_with("ld-") || name.starts_with("ld.so");
}

}  // namespace

void let_waiting_threads_sleep(char** argv) {
  constexpr const char* kSpinCount = "GOMP_SPINCOUNT";
  constexpr const char* kShortly = "10000";  // some tenths of a millisecond
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv(kSpinCount) || begun_by_loader()) return;
  // Where either fails it waits as it did.
  if (::setenv(kSpinCount, kShortly, 0) == 0) ::execv("/proc/self/exe", argv);
}

}  // namespace gf
