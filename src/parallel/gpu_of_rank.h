// SPDX-License-Identifier: Apache-2.0
// Which GPU a rank computes on.
#pragma once
#include <string>

#include "parallel/communicator.h"

namespace gf {

bool has_gpu();  // in this build, on this machine

// The one of a rank that is so many on its node: each its own, in turn where there are more ranks than GPUs. This
// thread works on it from now on. Refuses where there is none, or the program was built without CUDA.
Device choose_gpu(int rank_on_node);

// Where this rank is among those of its node. Collective.
struct NodePlace {
  int rank = 0, size = 1;
};
NodePlace place_on_node(Communicator& world);

}  // namespace gf
