// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "parallel/communicator.h"

namespace gf {

// Where this rank stands: a grid of pipeline x data ranks, and a communicator along each axis.
struct Mesh {
  std::unique_ptr<Communicator> world, pipe, data;
};

// How many data ranks there are where `ranks` run pipelines of this length; those asked for, or as many as there can
// be. Refuses where pipeline x data is not the number of ranks.
int data_ranks(int64_t ranks, int64_t pipeline, std::optional<int64_t> data);

// Rank r of the world is stage r / data, there the data rank r % data; in_places() numbers ranks so that those of a
// node are near. Refuses where pipeline x data is not the number of ranks.
Mesh make_mesh(std::unique_ptr<Communicator> world, int pipeline, int data);

}  // namespace gf
