// SPDX-License-Identifier: Apache-2.0
#include "train/planner/drawing.h"

#include <gtest/gtest.h>

namespace gf {
namespace {

Simulation simulated(const std::string& name, int ranks, int microbatches) {
  return simulate(lower(find_schedule(name), ranks, microbatches, 1), 1, unit_costs());
}

TEST(Drawing, HasARowARank) {
  EXPECT_EQ(drawing(simulated("one_f_one_b", 2, 2), 80),
            "  rank 0    F0F1....B0--..B1--\n"
            "  rank 1    ..F0B0--F1B1--....\n");
  EXPECT_EQ(drawing(simulated("zero_bubble", 2, 3), 80),
            "  rank 0    F0F1..b0w0F2b1w1b2w2\n"
            "  rank 1    ..F0b0F1b1w0F2b2w1w2\n");
}

TEST(Drawing, KeepsWithinItsColumns) {
  const Simulation s = simulated("one_f_one_b", 4, 60);
  const std::string text = drawing(s, 100);
  EXPECT_EQ(text.find('\n'), 12 + 100u);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
  EXPECT_EQ(drawing({}, 80), "");
}

}  // namespace
}  // namespace gf
