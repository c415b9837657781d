// SPDX-License-Identifier: Apache-2.0
// A line on the terminal that says how far a long piece of work is: share, amount, rate, time left. Nothing is
// written where the output is no terminal: log files get no half lines.
#pragma once
#include <cstdint>
#include <cstdio>
#include <string>

#include "base/clock.h"

namespace gf {

class Progress {
 public:
  // `total` bytes to do, or of what `unit` names; 0 where that is not known.
  Progress(std::string label, int64_t total, std::FILE* out = stderr, std::string unit = {});
  ~Progress();  // takes the line away
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t amount);
  std::string line(double seconds) const;  // after that much time

 private:
  std::string shown(double) const;

  std::string label_, unit_;
  int64_t total_, done_ = 0;
  std::FILE* out_;  // null where there is no terminal
  Stopwatch clock_;
  double drawn_at_ = 0;
};

}  // namespace gf
