// SPDX-License-Identifier: Apache-2.0
// From the order of passes on each rank to programs that also say what to send and to receive when: one way for all
// schedules.
//
// Exchanges of a rank begin in the order of its program, and one may only complete once the other side has begun it
// (what NCCL promises, and no more). Programs made here cannot deadlock under that rule: all messages of all ranks are
// put in one order, that in which ideal ranks would produce them, and every rank keeps to it.
#pragma once
#include <vector>

#include "parallel/schedule/schedule.h"

namespace gf {

// One message of an exchange: what `pass` of this rank gave, to rank `peer`; or what it takes, from there.
struct Transfer {
  bool send;
  int peer;
  Compute pass;
  bool operator==(const Transfer&) const = default;
};

// Either a pass, or a group of transfers that begins together and does not hold up what follows it. A pass waits for
// what it takes.
struct Step {
  Compute compute;
  std::vector<Transfer> exchange;  // empty: a pass
};
using Program = std::vector<Step>;

// The programs of all ranks. Refuses a schedule whose plans wait for one another for ever.
std::vector<Program> lower(const ScheduleEntry&, int ranks, int microbatches, int pieces);

// The pass whose result `c` of rank `rank` needs, and whose rank that is; rank -1: none.
struct Source {
  int rank = -1;
  Compute pass;
};
Source source_of(const Compute& c, int rank, int ranks, int pieces);

}  // namespace gf
