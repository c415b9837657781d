// SPDX-License-Identifier: Apache-2.0
#include "base/process_start.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "base/clock.h"

namespace gf {

double process_start() {
  const double now = seconds_now();
  std::string text;
  std::getline(std::ifstream("/proc/self/stat"), text);
  // "pid (name) state ...": the name may have anything in it. Field 22 has ticks since the machine was started.
  std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string skipped;
  for (int field = 3; field < 22; ++field) rest >> skipped;
  double ticks = 0;
  timespec up{};
  if (!(rest >> ticks) || clock_gettime(CLOCK_BOOTTIME, &up) != 0) return now;
  const double since_boot = static_cast<double>(up.tv_sec) + 1e-9 * static_cast<double>(up.tv_nsec);
  return now - std::max(0.0, since_boot - ticks / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

}  // namespace gf
