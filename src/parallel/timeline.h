// SPDX-License-Identifier: Apache-2.0
// What ranks did from when to when, as traces tell, and what follows: how long they computed, waited, and stood idle in
// their pipeline, and how much of the communication was hidden behind computing; beside it what the schedule itself
// costs. Knows of no file.
#pragma once
#include <string>
#include <vector>

#include "parallel/schedule/simulation.h"

namespace gf {

struct Interval {
  double begin = 0, end = 0;
  double length() const { return end - begin; }
  bool operator==(const Interval&) const = default;
};

// Of one rank, in seconds on a clock that all ranks share.
struct Timeline {
  struct Span {
    std::string name;
    Interval at;
  };
  struct Transfer {
    std::string name;
    Interval at;    // from when this rank has begun it until it knows that it is done
    int peer = -1;  // of a message: its place in the pipeline
    int lane = 0;   // those of one lane follow one another
    int microbatch = -1;
  };
  // Each in the order of the beginnings.
  std::vector<Interval> steps;
  std::vector<PassSpan> passes;     // of all steps
  std::vector<Span> phases, waits;  // waits lie in phases, in passes, or between
  std::vector<Transfer> transfers;
};

struct TracedRun {
  std::string schedule;
  int pipeline = 1, data = 1, pieces = 1, microbatches = 1;  // ranks along each axis; of each rank
  int64_t first_step = 0;
  std::vector<std::string> nodes{};   // of each rank
  std::vector<Timeline> timelines{};  // of rank stage * data + data rank
  int stage(int rank) const { return rank / data; }
  int data_rank(int rank) const { return rank % data; }
};

// Refuses what is no whole trace: each rank has the same steps, and in each of them the passes of its schedule.
void check(const TracedRun&);

// A transfer is under way on a rank from when all who take part have begun it, until that rank knows that it is done:
// what one waits for before that is another rank's being late. Those of one name and group belong together in their
// order. -> of each rank, in the order of its transfers.
std::vector<std::vector<Interval>> under_way(const TracedRun&);

// Seconds in the traced steps, all of them together.
struct RankTimes {
  double steps = 0;
  double computing = 0;  // in passes, the optimizer and validation, without waits
  double waiting = 0;
  double pipeline = 0;       // from the first pass begun to the last one ended in this rank's pipeline, of each step
  double passes = 0;         // of which this rank spent in passes, without waits
  double communication = 0;  // something was under way
  double hidden = 0;         // of which this rank computed
  double bubble() const { return pipeline > 0 ? 1 - passes / pipeline : 0; }  // as Simulation's
  double overlap() const { return communication > 0 ? hidden / communication : 0; }
};

struct TraceSummary {
  std::vector<RankTimes> ranks;
  RankTimes all;                // their sum
  std::vector<double> bubbles;  // of each step, over all ranks
  // The schedule's bubble where messages are free: with passes as in unit_costs(), and with the mean of each rank's
  // measured passes of a kind and piece.
  double formula = 0, formula_of_passes = 0;
  struct Wait {
    int rank;
    std::string what;  // with the phase it lies in
    int64_t count;
    double seconds;
  };
  std::vector<Wait> waits;  // those of a rank and name together, longest first
};
TraceSummary summarize(const TracedRun&);

}  // namespace gf
