// SPDX-License-Identifier: Apache-2.0
// Runs the programs of any number of ranks without them: do they come to an end, how long do ranks stand idle, how
// many microbatches are in memory?
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "parallel/schedule/lowering.h"

namespace gf {

// In seconds, or any unit.
struct PassCosts {
  // Of a pass of rank `rank`.
  std::function<double(int rank, const Compute&)> pass;
  // Of the message with what that pass gave, from the moment both sides have begun it; empty: none takes time.
  std::function<double(int rank, const Compute&)> message = {};
};
PassCosts unit_costs();  // forward 1, each half of a backward pass 1, messages free

struct PassSpan {
  Compute pass;
  double begin, end;
};

struct Simulation {
  std::string deadlock;                       // which rank waits where; empty: all come to an end
  double time = 0;                            // until the last rank is done
  double busy = 0;                            // mean over the ranks
  std::vector<int> peak_in_flight;            // of each rank
  std::vector<std::vector<PassSpan>> passes;  // of each rank
  bool completes() const { return deadlock.empty(); }
  int most_in_flight() const;
  double bubble() const { return time > 0 ? 1 - busy / time : 0; }  // idle share of the ranks' time
};

Simulation simulate(const std::vector<Program>&, int pieces, const PassCosts&);

// "3 microbatches"; of ranks that have several stages, each of which counts, "6 pieces of microbatches".
std::string in_flight_text(int count, int64_t pieces);

}  // namespace gf
