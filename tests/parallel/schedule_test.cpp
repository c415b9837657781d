// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/schedule.h"

#include <gtest/gtest.h>

#include <set>

#include "support/expect_error.h"

namespace gf {
namespace {

using Pass = Compute::Pass;

class Schedule : public testing::TestWithParam<std::string> {
 protected:
  PlanFn plan = find_schedule(GetParam());

  template <class F>
  static void for_all_shapes(F&& f) {
    for (int ranks = 1; ranks <= 8; ++ranks)
      for (int rank = 0; rank < ranks; ++rank)
        for (int microbatches = 1; microbatches <= 17; ++microbatches) f(PipeShape{ranks, rank, microbatches});
  }
};

TEST_P(Schedule, RunsEachPassOnceAndBackwardAfterForward) {
  for_all_shapes([&](const PipeShape& s) {
    std::set<int> forward, backward;
    for (const Compute& c : plan(s)) {
      ASSERT_TRUE(0 <= c.microbatch && c.microbatch < s.microbatches);
      if (c.pass == Pass::forward) {
        ASSERT_TRUE(forward.insert(c.microbatch).second) << "forward twice";
      } else {
        ASSERT_TRUE(forward.contains(c.microbatch)) << "backward before forward";
        ASSERT_TRUE(backward.insert(c.microbatch).second) << "backward twice";
      }
    }
    ASSERT_EQ(backward.size(), static_cast<size_t>(s.microbatches)) << "rank " << s.rank << " of " << s.ranks;
  });
}

// Weight gradients are summed over the microbatches in the order of the plan: in one order on every rank and for any
// number of stages, or a split would change their bits.
TEST_P(Schedule, MicrobatchesGoInOrder) {
  for_all_shapes([&](const PipeShape& s) {
    int next_forward = 0, next_backward = 0;
    for (const Compute& c : plan(s))
      ASSERT_EQ(c.microbatch, c.pass == Pass::forward ? next_forward++ : next_backward++);
  });
}

// Ranks in lockstep, each doing its next pass as soon as what it needs has been done. With sends that wait for
// nobody every plan must come to its end.
TEST_P(Schedule, AllRanksComeToTheEnd) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (int microbatches = 1; microbatches <= 17; ++microbatches) {
      std::vector<std::vector<Compute>> plans;
      for (int rank = 0; rank < ranks; ++rank) plans.push_back(plan({ranks, rank, microbatches}));
      std::vector<size_t> at(ranks);
      std::vector<std::set<std::pair<Pass, int>>> done(ranks);
      bool moved = true;
      while (moved) {
        moved = false;
        for (int r = 0; r < ranks; ++r) {
          if (at[r] == plans[r].size()) continue;
          const Compute c = plans[r][at[r]];
          const int from = c.pass == Pass::forward ? r - 1 : r + 1;
          if (from >= 0 && from < ranks && !done[from].contains({c.pass, c.microbatch})) continue;
          done[r].insert({c.pass, c.microbatch});
          ++at[r];
          moved = true;
        }
      }
      for (int r = 0; r < ranks; ++r)
        EXPECT_EQ(at[r], plans[r].size()) << "rank " << r << " of " << ranks << " is stuck";
    }
  }
}

TEST_P(Schedule, IsFoundByName) {
  EXPECT_EQ(find_schedule(GetParam()), plan);
}

std::vector<std::string> all_schedules() {
  std::vector<std::string> names;
  for (const auto name : schedule_names()) names.emplace_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, Schedule, testing::ValuesIn(all_schedules()),
                         [](const auto& test) { return test.param; });

TEST(Schedules, PeakInFlight) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      for (int microbatches = 1; microbatches <= 17; ++microbatches) {
        const PipeShape s{ranks, rank, microbatches};
        EXPECT_EQ(peak_in_flight(find_schedule("gpipe")(s)), microbatches);
        EXPECT_EQ(peak_in_flight(find_schedule("one_f_one_b")(s)), std::min(ranks - rank, microbatches));
      }
    }
  }
  EXPECT_EQ(peak_in_flight({}), 0);
}

TEST(Schedules, OneForwardOneBackwardAsDrawn) {
  // Rank 1 of 3, 4 microbatches: one forward to warm up, then in turns, then the last backward.
  const std::vector<Compute> want{{Pass::forward, 0},  {Pass::forward, 1}, {Pass::backward, 0}, {Pass::forward, 2},
                                  {Pass::backward, 1}, {Pass::forward, 3}, {Pass::backward, 2}, {Pass::backward, 3}};
  EXPECT_EQ(find_schedule("one_f_one_b")({3, 1, 4}), want);
}

TEST(Schedules, RefusesAnUnknownName) {
  expect_error(Exit::bad_input, {"\"dualpipe\"", "gpipe", "one_f_one_b", "parallel.schedule"},
               [] { find_schedule("dualpipe"); });
}

}  // namespace
}  // namespace gf
