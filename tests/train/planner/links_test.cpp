// SPDX-License-Identifier: Apache-2.0
#include "train/planner/links.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace gf {
namespace {

// 4 ranks a node; powers of two, so that sums are exact.
Hardware hardware() {
  Hardware h;
  h.nodes = 4, h.ranks_per_node = 4;
  h.within_node.emplace(Link{1024, 0.25, false});
  h.between_nodes.emplace(Link{64, 2, true});
  return h;
}

TEST(Links, MessagesGoWhereTheRanksStand) {
  const Hardware h = hardware();
  // Four stages in one node.
  EXPECT_EQ(Links(h, 4, 1).message(0, 1, 1024), 1.25);
  // Ranks 0 and 1 are stage 0, 2 and 3 stage 1, 4 and 5 stage 2, in the next node.
  const Links two(h, 4, 2);
  EXPECT_EQ(two.message(0, 1, 1024), 1.25);
  EXPECT_EQ(two.message(1, 2, 1024), 2 + 16);
  EXPECT_EQ(two.message(2, 1, 1024), 2 + 16);
  // Three data ranks: the last of stage 0 and the first of stage 1 share a node, but the others do not.
  EXPECT_EQ(Links(h, 2, 3).message(0, 1, 64), 3);
}

TEST(Links, CollectivesUseBothWays) {
  const Hardware h = hardware();
  EXPECT_EQ(Links(h, 4, 1).among_data_ranks(0, 1024), 0) << "nobody to tell";
  EXPECT_EQ(Links(h, 4, 2).among_data_ranks(1, 1024), 1 + 0.25);
  EXPECT_EQ(Links(h, 1, 4).among_data_ranks(0, 1024), 1 + 2 * 0.25) << "two rounds";
  // Eight in two nodes: 3 of the 7 others are near, 4 far.
  EXPECT_DOUBLE_EQ(Links(h, 1, 8).among_data_ranks(0, 7 * 64), 4 + 3 * 2);
  // Three a stage: ranks 3, 4, 5 are one in the first node, two in the second; the one sends all of it out.
  EXPECT_EQ(Links(h, 2, 3).among_data_ranks(1, 64), 1 + 2 * 2);
  EXPECT_EQ(Links(h, 4, 4).among_all(0), 4 * 2);
}

// Stages as neighbours: the two of a pipeline share a node, of eight data ranks every four of them two nodes.
TEST(Links, StagesMayBeNear) {
  const Hardware h = hardware();
  const Links near(h, 2, 4, Near::pipe);
  EXPECT_EQ(near.message(0, 1, 1024), 1.25);
  EXPECT_EQ(Links(h, 2, 4).message(0, 1, 1024), 2 + 16);
  // Two of the four share a node: one of the three others is near.
  EXPECT_DOUBLE_EQ(near.among_data_ranks(1, 3 * 64), 2 + 2 * 2);
  EXPECT_EQ(near.among_all(0), 3 * 2);
  EXPECT_TRUE(near.data_overlaps(0));
  EXPECT_FALSE(Links(h, 2, 4).data_overlaps(0));
}

TEST(Links, OverlapIsThatOfTheSlowestWay) {
  const Hardware h = hardware();
  EXPECT_FALSE(Links(h, 1, 4).data_overlaps(0));
  EXPECT_TRUE(Links(h, 1, 8).data_overlaps(0));
  EXPECT_TRUE(Links(h, 4, 1).data_overlaps(0)) << "nothing to move";
}

TEST(Links, AreMissedBeforeAnythingIsReckoned) {
  Hardware h = hardware();
  h.between_nodes.reset();
  EXPECT_NO_THROW(Links(h, 2, 2));
  expect_refused({"between nodes"}, [&] { Links(h, 2, 4); });
  h.within_node.reset();
  EXPECT_NO_THROW(Links(h, 1, 1));
  expect_refused({"within a node"}, [&] { Links(h, 2, 1); });
}

}  // namespace
}  // namespace gf
