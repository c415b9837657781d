// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "support/expect_error.h"

namespace gf {
namespace {

using Pass = Compute::Pass;

class Schedule : public testing::TestWithParam<std::string> {
 protected:
  const ScheduleEntry& schedule = find_schedule(GetParam());

  template <class F>
  void for_all_shapes(F&& f) {
    for (int ranks = 1; ranks <= 16; ++ranks)
      for (int rank = 0; rank < ranks; ++rank)
        for (int microbatches = 1; microbatches <= 64; ++microbatches)
          for (int pieces = 1; pieces <= (schedule.takes_pieces ? 4 : 1); ++pieces)
            f(PipeShape{ranks, rank, microbatches, pieces});
  }
};

TEST_P(Schedule, RunsEachPassOnceAndInItsOrder) {
  for_all_shapes([&](const PipeShape& s) {
    const auto all = static_cast<size_t>(s.microbatches * s.pieces);
    std::vector<char> forward(all), input(all), weight(all);
    const auto once = [](std::vector<char>& done, size_t what) { return std::exchange(done[what], 1) == 0; };
    for (const Compute& c : schedule.plan(s)) {
      ASSERT_TRUE(0 <= c.microbatch && c.microbatch < s.microbatches && 0 <= c.piece && c.piece < s.pieces);
      const auto what = static_cast<size_t>(c.piece * s.microbatches + c.microbatch);
      if (c.pass == Pass::forward) {
        ASSERT_TRUE(once(forward, what)) << "forward twice";
        continue;
      }
      ASSERT_TRUE(forward[what]) << "backward before forward";
      if (c.pass != Pass::backward_weight) {
        ASSERT_TRUE(once(input, what)) << "backward twice";
      }
      if (c.pass != Pass::backward_input) {
        ASSERT_TRUE(input[what]) << "weights before inputs";
        ASSERT_TRUE(once(weight, what)) << "weights twice";
      }
    }
    ASSERT_EQ(std::ranges::count(weight, 1), s.microbatches * s.pieces) << "rank " << s.rank << " of " << s.ranks;
  });
}

// Weight gradients are summed over the microbatches in the order of the plan: in one order on every rank and for any
// number of stages, or a split would change their bits.
TEST_P(Schedule, MicrobatchesOfAPieceGoInOrder) {
  for_all_shapes([&](const PipeShape& s) {
    std::vector<int> forward(s.pieces), input(s.pieces), weight(s.pieces);
    for (const Compute& c : schedule.plan(s)) {
      const bool is_forward = c.pass == Pass::forward;
      if (is_forward) {
        EXPECT_EQ(c.microbatch, forward[c.piece]++);
      }
      if (!is_forward && c.pass != Pass::backward_weight) {
        EXPECT_EQ(c.microbatch, input[c.piece]++);
      }
      if (!is_forward && c.pass != Pass::backward_input) {
        EXPECT_EQ(c.microbatch, weight[c.piece]++);
      }
    }
  });
}

TEST_P(Schedule, IsFoundByName) {
  EXPECT_EQ(schedule.name, GetParam());
}

std::vector<std::string> all_schedules() {
  std::vector<std::string> names;
  for (const auto name : schedule_names()) names.emplace_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, Schedule, testing::ValuesIn(all_schedules()),
                         [](const auto& test) { return test.param; });

TEST(Schedules, PeakInFlightOfNothing) {
  EXPECT_EQ(peak_in_flight({}), 0);
}

TEST(Schedules, OneForwardOneBackwardAsDrawn) {
  // Rank 1 of 3, 4 microbatches: one forward to warm up, then in turns, then the last backward.
  const std::vector<Compute> want{{Pass::forward, 0},  {Pass::forward, 1}, {Pass::backward, 0}, {Pass::forward, 2},
                                  {Pass::backward, 1}, {Pass::forward, 3}, {Pass::backward, 2}, {Pass::backward, 3}};
  EXPECT_EQ(find_schedule("one_f_one_b").plan({3, 1, 4}), want);
}

TEST(Schedules, RefusesAnUnknownName) {
  expect_error(Exit::bad_input, {"\"dualpipe\"", "gpipe", "one_f_one_b", "parallel.schedule"},
               [] { find_schedule("dualpipe"); });
}

}  // namespace
}  // namespace gf
