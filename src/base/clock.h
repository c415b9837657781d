// SPDX-License-Identifier: Apache-2.0
// Time that only goes forward, for measuring; never the wall clock, which may jump.
#pragma once
#include <chrono>
#include <string>

namespace gf {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The same in all processes whose seconds_now() can be compared: those of one machine since it was started. Empty where
// the system does not tell.
std::string clock_name();

// Seconds that this thread could have run and had no core, since it began; 0 where the system does not tell.
double waited_for_core();

class Stopwatch {
 public:
  double seconds() const { return seconds_now() - start_; }
  double lap() {
    const double now = seconds_now(), past = now - start_;
    start_ = now;
    return past;
  }

 private:
  double start_ = seconds_now();
};

}  // namespace gf
