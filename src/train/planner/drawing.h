// SPDX-License-Identifier: Apache-2.0
// A simulated schedule as text: a row a rank, time to the right.
#pragma once
#include <string>

#include "parallel/schedule/simulation.h"

namespace gf {

// A pass is a letter (F forward, B backward, b gradients of the input, w of the weights), the last digit of its
// microbatch, and - to its end. Idle time is dots.
// At most `columns` for the time; passes that are too short for it are their letter or nothing.
std::string drawing(const Simulation&, int columns);

}  // namespace gf
