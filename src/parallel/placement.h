// SPDX-License-Identifier: Apache-2.0
// Which rank takes which place in a mesh, so that ranks of a node are neighbours there. A place is a number as
// make_mesh() has it: stage * data + replica.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace gf {

// Who shares a node, as far as it has room: the data ranks of a stage, or the stages of a pipeline.
enum class Near : uint8_t { data, pipe };

// Where each of these runs, as numbers in the order in which they first appear.
std::vector<int> numbered(const std::vector<std::string>& nodes);

struct Placement {
  int pipeline = 1, data = 1;
  Near near = Near::data;
  std::vector<int> ranks;  // of the world, by place; the first is rank 0
  std::vector<int> nodes;  // by place

  int node(int stage, int replica) const { return nodes[static_cast<size_t>(stage) * data + replica]; }
  bool one_node() const;
  // Whether all that these tell each other stays in a node.
  bool data_within() const;
  bool pipe_within() const;
  bool moves() const;  // some rank has another place than its number
  // For a person: what goes within a node and what between nodes, and why. Empty for one rank.
  std::string text() const;
};

// `nodes`: of each rank of the world, numbered() or in another way by which the first rank's is the least. Ranks of a
// node come one after another in their order, nodes by their numbers; then places that are near follow each other.
Placement place_ranks(const std::vector<int>& nodes, int pipeline, int data, Near);

// Collective: the world in which a rank's number is its place.
std::unique_ptr<Communicator> in_places(std::unique_ptr<Communicator> world, const Placement&);

}  // namespace gf
