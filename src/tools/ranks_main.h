// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <string>

#include "parallel/communicator_mpi.h"

namespace gf {

// Runs a program's body on all ranks that a launcher started. A message says whose it is, and is printed once: where
// all ranks failed alike (AgreedError), by the one that it is about. Where one failed alone, the others are ended, or
// they would wait for it for ever.
int run_on_ranks(const std::string& program, const World&, const std::function<int()>& body);

}  // namespace gf
