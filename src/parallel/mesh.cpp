// SPDX-License-Identifier: Apache-2.0
#include "parallel/mesh.h"

namespace gf {

Mesh make_mesh(std::unique_ptr<Communicator> world, int pipeline, int data) {
  const auto ranks = static_cast<int64_t>(pipeline) * data;
  if (pipeline < 1 || data < 1 || ranks != world->size())
    refuse(cat("parallel.pipeline ", pipeline, " x parallel.data ", data, " is ", ranks, " ranks, and there are ",
               world->size()),
           "--parallel.data auto, or another number of ranks");
  const int stage = world->rank() / data, replica = world->rank() % data;
  auto pipe = world->split(replica, stage);
  auto replicas = world->split(stage, replica);
  return {std::move(world), std::move(pipe), std::move(replicas)};
}

}  // namespace gf
