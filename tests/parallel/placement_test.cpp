// SPDX-License-Identifier: Apache-2.0
#include "parallel/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "parallel/communicator_threads.h"

namespace gf {
namespace {

using Numbers = std::vector<int>;

TEST(Placement, NodesAreNumberedAsTheyAppear) {
  EXPECT_EQ(numbered({"b", "a", "b", "c", "a"}), (Numbers{0, 1, 0, 2, 1}));
}

// Dealt out in turn to two nodes.
TEST(Placement, RanksOfANodeComeTogether) {
  const Numbers nodes{0, 1, 0, 1, 0, 1, 0, 1};
  const Placement data = place_ranks(nodes, 2, 4, Near::data), pipe = place_ranks(nodes, 2, 4, Near::pipe);
  EXPECT_EQ(data.ranks, (Numbers{0, 2, 4, 6, 1, 3, 5, 7}));
  EXPECT_EQ(data.nodes, (Numbers{0, 0, 0, 0, 1, 1, 1, 1}));
  EXPECT_TRUE(data.data_within());
  EXPECT_FALSE(data.pipe_within());
  // Stage 0: the first of each pair of neighbours.
  EXPECT_EQ(pipe.ranks, (Numbers{0, 4, 1, 5, 2, 6, 3, 7}));
  EXPECT_EQ(pipe.nodes, (Numbers{0, 0, 1, 1, 0, 0, 1, 1}));
  EXPECT_FALSE(pipe.data_within());
  EXPECT_TRUE(pipe.pipe_within());
  EXPECT_EQ(data.text(),
            "gradients go within a node, activations between nodes; data ranks are neighbours, so that less leaves a "
            "node; ranks are numbered anew, node by node");
}

TEST(Placement, FilledNodesAreLeftAsTheyAre) {
  const Placement data = place_ranks({0, 0, 1, 1}, 2, 2, Near::data);
  EXPECT_FALSE(data.moves());
  EXPECT_TRUE(place_ranks({0, 0, 1, 1}, 2, 2, Near::pipe).moves());
  const Placement one = place_ranks({0, 0, 0, 0}, 2, 2, Near::data);
  EXPECT_TRUE(one.one_node());
  EXPECT_EQ(one.text(), "gradients go within a node, activations within a node");
  EXPECT_EQ(place_ranks({0, 1}, 1, 2, Near::data).text(), "gradients go between nodes");
  EXPECT_EQ(place_ranks({0, 1}, 2, 1, Near::data).text(), "activations go between nodes");
  EXPECT_EQ(place_ranks({0}, 1, 1, Near::data).text(), "");
}

// Nodes with room for other numbers of ranks than are near: some are split, and nobody is lost.
TEST(Placement, EveryRankHasOnePlace) {
  for (const Numbers& nodes : {Numbers{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3},
                               {0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2},
                               {0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1},
                               {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}) {
    for (const int pipeline : {1, 2, 3, 4, 6, 12}) {
      for (const Near near : {Near::data, Near::pipe}) {
        const Placement p = place_ranks(nodes, pipeline, 12 / pipeline, near);
        EXPECT_EQ(std::set<int>(p.ranks.begin(), p.ranks.end()).size(), 12u);
        EXPECT_EQ(p.ranks[0], 0) << "the first rank stays the first";
        for (size_t place = 0; place < 12; ++place) EXPECT_EQ(p.nodes[place], nodes[p.ranks[place]]);
      }
    }
  }
}

TEST(Placement, RanksTakeTheirPlaces) {
  const Placement p = place_ranks({0, 1, 0, 1, 0, 1}, 3, 2, Near::data);
  run_as_threads(6, [&](Communicator& world) {
    const auto placed = in_places(world.split(0, world.rank()), p);
    ASSERT_EQ(placed->size(), 6);
    EXPECT_EQ(p.ranks[placed->rank()], world.rank());
    const auto who = placed->gather_text(std::to_string(world.rank()));
    for (size_t place = 0; place < 6; ++place) EXPECT_EQ(who[place], std::to_string(p.ranks[place]));
  });
}

}  // namespace
}  // namespace gf
