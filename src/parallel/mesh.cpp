// SPDX-License-Identifier: Apache-2.0
#include "parallel/mesh.h"

namespace gf {

int data_ranks(int64_t ranks, int64_t pipeline, std::optional<int64_t> data) {
  const int64_t wanted = data.value_or(std::max<int64_t>(1, ranks / std::max<int64_t>(1, pipeline)));
  if (pipeline >= 1 && wanted >= 1 && pipeline <= ranks && pipeline * wanted == ranks) return static_cast<int>(wanted);
  refuse(cat("parallel.pipeline ", pipeline, data ? cat(" x parallel.data ", *data) : "", " does not make the ", ranks,
             ranks == 1 ? " rank" : " ranks", " that there ", ranks == 1 ? "is" : "are"),
         ranks % std::max<int64_t>(1, pipeline) == 0 ? "--parallel.data auto"
                                                     : "a --parallel.pipeline that divides the number of ranks");
}

Mesh make_mesh(std::unique_ptr<Communicator> world, int pipeline, int data) {
  data_ranks(world->size(), pipeline, data);
  const int stage = world->rank() / data, replica = world->rank() % data;
  auto pipe = world->split(replica, stage);
  auto replicas = world->split(stage, replica);
  return {std::move(world), std::move(pipe), std::move(replicas)};
}

}  // namespace gf
