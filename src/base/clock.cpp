// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <fstream>

namespace gf {

std::string clock_name() {
  std::string name;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), name);
  return name;
}

// Nanoseconds that it ran, nanoseconds that it waited to run, and how often it ran.
double waited_for_core() {
  double ran = 0, waited = 0;
  std::ifstream("/proc/thread-self/schedstat") >> ran >> waited;
  return waited / 1e9;
}

}  // namespace gf
