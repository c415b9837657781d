// SPDX-License-Identifier: Apache-2.0
#include "parallel/placement.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

namespace gf {

std::vector<int> numbered(const std::vector<std::string>& nodes) {
  std::map<std::string, int> numbers;
  std::vector<int> all;
  for (const std::string& node : nodes)
    all.push_back(numbers.emplace(node, static_cast<int>(numbers.size())).first->second);
  return all;
}

bool Placement::one_node() const {
  return std::ranges::adjacent_find(nodes, std::not_equal_to()) == nodes.end();
}

bool Placement::data_within() const {
  for (int s = 0; s < pipeline; ++s)
    for (int r = 1; r < data; ++r)
      if (node(s, r) != node(s, 0)) return false;
  return true;
}

bool Placement::pipe_within() const {
  for (int r = 0; r < data; ++r)
    for (int s = 1; s < pipeline; ++s)
      if (node(s, r) != node(0, r)) return false;
  return true;
}

bool Placement::moves() const {
  return !std::ranges::is_sorted(ranks);
}

std::string Placement::text() const {
  const auto where = [](bool within) { return within ? "within a node" : "between nodes"; };
  std::string text;
  if (data > 1) text += cat("gradients go ", where(data_within()));
  if (pipeline > 1) text += cat(data > 1 ? ", activations " : "activations go ", where(pipe_within()));
  if (one_node()) return text;
  if (data > 1 && pipeline > 1)
    text += cat("; ", near == Near::data ? "data ranks" : "stages", " are neighbours, so that less leaves a node");
  if (moves()) text += "; ranks are numbered anew, node by node";
  return text;
}

Placement place_ranks(const std::vector<int>& nodes, int pipeline, int data, Near near) {
  GF_CHECK(std::ssize(nodes) == int64_t{pipeline} * data, std::ssize(nodes), " ranks for ", pipeline, " x ", data);
  std::vector<int> by_node(nodes.size());
  std::iota(by_node.begin(), by_node.end(), 0);
  std::ranges::stable_sort(by_node, {}, [&](int rank) { return nodes[rank]; });
  Placement p{pipeline, data, near, {}, {}};
  for (int stage = 0; stage < pipeline; ++stage) {
    for (int replica = 0; replica < data; ++replica) {
      const int rank = by_node[near == Near::data ? stage * data + replica : replica * pipeline + stage];
      p.ranks.push_back(rank);
      p.nodes.push_back(nodes[rank]);
    }
  }
  return p;
}

std::unique_ptr<Communicator> in_places(std::unique_ptr<Communicator> world, const Placement& p) {
  GF_CHECK(std::ssize(p.ranks) == world->size(), std::ssize(p.ranks), " places for ", world->size(), " ranks");
  if (!p.moves()) return world;
  const auto place = std::ranges::find(p.ranks, world->rank()) - p.ranks.begin();
  return world->split(0, static_cast<int>(place));
}

}  // namespace gf
