// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <exception>
#include <functional>
#include <string>

#include "parallel/communicator_mpi.h"
#include "parallel/hang_watch.h"

namespace gf {

// What a program's body has on each rank.
struct OnRanks {
  World& world;
  HangWatch* watch;  // null: there is one rank, which waits for nobody
  // Tells of an error that the body will end with, before it does. Later it is not told again.
  const std::function<void(const std::exception&)>& tell;
};

// Runs a program's body on all ranks that a launcher started. A message says whose it is, and is printed once: where
// all ranks failed alike (AgreedError), by the one that it is about. Where one failed alone, the others are ended, or
// they would wait for it for ever. A watch ends those that hang, from their first words to one another to their last;
// its limit is the default of parallel.hang_seconds until the body sets another.
int run_on_ranks(const std::string& program, const std::function<int(const OnRanks&)>& body);

}  // namespace gf
