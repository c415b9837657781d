// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "parallel/communicator.h"

namespace gf {

// Where this rank stands: a grid of pipeline x data ranks, and a communicator along each axis.
struct Mesh {
  std::unique_ptr<Communicator> world, pipe, data;
  bool first_stage() const { return pipe->rank() == 0; }
  bool last_stage() const { return pipe->rank() + 1 == pipe->size(); }
};

// Data ranks are neighbours in the world: gradients are the heavier traffic. Refuses where pipeline x data is not
// the number of ranks.
Mesh make_mesh(std::unique_ptr<Communicator> world, int pipeline, int data);

}  // namespace gf
