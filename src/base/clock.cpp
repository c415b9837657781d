// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <fstream>

namespace gf {

std::string clock_name() {
  std::string name;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), name);
  return name;
}

}  // namespace gf
