// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/simulation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/expect_error.h"

namespace gf {
namespace {

Simulation simulated(const std::string& name, int ranks, int microbatches, int pieces = 1) {
  return simulate(lower(find_schedule(name), ranks, microbatches, pieces), pieces, unit_costs());
}

// Every schedule on 1 to 16 ranks, with 1 to 64 microbatches and 1 to 4 pieces.
class EverySchedule : public testing::TestWithParam<std::string> {
 protected:
  // `f(shape, simulation)`: the shape is the first rank's.
  template <class F>
  void for_all_shapes(F&& f) {
    const ScheduleEntry& schedule = find_schedule(GetParam());
    for (int ranks = 1; ranks <= 16; ++ranks) {
      for (int microbatches = 1; microbatches <= 64; ++microbatches) {
        for (int pieces = 1; pieces <= (schedule.takes_pieces ? 4 : 1); ++pieces) {
          const Simulation s = simulated(GetParam(), ranks, microbatches, pieces);
          ASSERT_TRUE(s.completes()) << ranks << " ranks, " << microbatches << " microbatches, " << pieces
                                     << " pieces: " << s.deadlock;
          ASSERT_NO_FATAL_FAILURE(f(PipeShape{ranks, 0, microbatches, pieces}, s))
              << ranks << " ranks, " << microbatches << " microbatches, " << pieces << " pieces";
        }
      }
    }
  }
};

// The most (pieces of) microbatches that a rank may keep, and whether it comes to keep as many.
struct Peak {
  int most;
  bool reached;
};
Peak peak_of(const std::string& name, const PipeShape& s) {
  const int all = s.microbatches * s.pieces, above = s.ranks - s.rank - 1;
  if (name == "gpipe") return {all, true};
  if (name == "zero_bubble") return {std::min(all, s.ranks), false};  // no more than the first rank in 1F1B
  if (name == "one_f_one_b" || s.pieces == 1) return {std::min(all, above + 1), true};
  // Narayanan et al. 2021: the first rank keeps p (1 + (p - 1) / (p v)) stages' worth.
  return {std::min(all, 2 * above + (s.pieces - 1) * s.ranks + 1), s.microbatches % s.ranks == 0};
}

// Idle time over busy time. Narayanan et al. 2021 for 1F1B and its interleaved kind, which wants groups of p
// microbatches, and idles through those that are missing; Qi et al. 2023 for ZB-H1, whose fill and drain are
// (p - 1)(F + B - W) long where there are as many microbatches as ranks.
TEST_P(EverySchedule, CompletesWithinItsMemoryAndItsBubble) {
  const std::string& name = GetParam();
  for_all_shapes([&](PipeShape s, const Simulation& run) {
    const double p = s.ranks, m = s.microbatches, v = s.pieces, fill = (p - 1) / m;
    const double idle = run.time / run.busy - 1;
    EXPECT_DOUBLE_EQ(run.bubble(), 1 - run.busy / run.time);
    if (name == "interleaved" && s.pieces > 1) {
      const double groups = std::ceil(m / p) * p;
      ASSERT_LE(idle, (groups + (p - 1) / v) / m - 1 + 1e-12);
      if (groups == m) {
        ASSERT_NEAR(idle, fill / v, 1e-12);
      }
    } else if (name == "zero_bubble") {
      ASSERT_LE(idle, fill + 1e-12);
      if (m >= p) {
        ASSERT_NEAR(idle, fill / 3, 1e-12);
      }
    } else if (name == "gpipe") {
      // With fewer microbatches than ranks each piece waits for the one below to have gone all the way up.
      ASSERT_NEAR(idle, m >= p ? fill / v : (v * p + m - 1) / (m * v) - 1, 1e-12);
    } else {
      ASSERT_NEAR(idle, fill, 1e-12);
    }
    for (s.rank = 0; s.rank < s.ranks; ++s.rank) {
      const Peak peak = peak_of(name, s);
      ASSERT_LE(run.peak_in_flight[s.rank], peak.most) << "rank " << s.rank;
      if (peak.reached) {
        ASSERT_EQ(run.peak_in_flight[s.rank], peak.most) << "rank " << s.rank;
      }
      ASSERT_EQ(run.peak_in_flight[s.rank], peak_in_flight(find_schedule(name).plan(s))) << "rank " << s.rank;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Simulation, EverySchedule, testing::ValuesIn([] {
                           const auto names = schedule_names();
                           return std::vector<std::string>(names.begin(), names.end());
                         }()),
                         [](const auto& test) { return test.param; });

// In a second or so, on a machine with nothing else to do.
TEST(Simulation, ThousandsOfRanks) {
  constexpr int kRanks = 4096, kMicrobatches = 16;
  for (const auto name : schedule_names()) {
    const int pieces = find_schedule(name).takes_pieces ? 2 : 1;
    const Simulation s = simulated(std::string(name), kRanks, kMicrobatches, pieces);
    ASSERT_TRUE(s.completes()) << name << ": " << s.deadlock;
    EXPECT_DOUBLE_EQ(s.busy, 3.0 * kMicrobatches * pieces) << name;
    // Every microbatch goes up and down through all stages, weight gradients on the way or not.
    EXPECT_GE(s.time, (name == "zero_bubble" ? 2 : 3) * kRanks * pieces) << name;
  }
}

TEST(Simulation, PeaksAreThoseOfThePlans) {
  const Simulation s = simulated("one_f_one_b", 4, 9);
  EXPECT_EQ(s.peak_in_flight, (std::vector<int>{4, 3, 2, 1}));
  EXPECT_EQ(simulated("gpipe", 3, 7).peak_in_flight, (std::vector<int>{7, 7, 7}));
  for (const int peak : simulated("zero_bubble", 4, 9).peak_in_flight) EXPECT_LE(peak, 4);
  // Narayanan et al. 2021, in pieces: the first rank keeps p (1 + (p - 1) / (p v)) stages' worth.
  EXPECT_EQ(simulated("interleaved", 4, 8, 2).peak_in_flight[0], 4 * 2 + 4 - 1);
}

TEST(Simulation, MessagesTakeTime) {
  PassCosts costs = unit_costs();
  costs.message = [](int, const Compute&) { return 0.25; };
  const auto programs = lower(find_schedule("one_f_one_b"), 3, 1, 1);
  // Two cuts up, two down.
  EXPECT_DOUBLE_EQ(simulate(programs, 1, costs).time, 3 * 3 + 4 * 0.25);
}

// What one would write without thinking of it: a receive when something is needed, a send once it is made; with
// `grouped` all that falls between two passes together.
std::vector<Program> naive_programs(int ranks, int microbatches, bool grouped) {
  std::vector<Program> programs;
  for (int r = 0; r < ranks; ++r) {
    Program program;
    const auto exchange = [&](const Transfer& t) {
      if (grouped && !program.empty() && !program.back().exchange.empty())
        program.back().exchange.push_back(t);
      else
        program.push_back({{}, {t}});
    };
    for (const Compute& c : find_schedule("one_f_one_b").plan({ranks, r, microbatches, 1})) {
      const Source source = source_of(c, r, ranks, 1);
      if (source.rank >= 0) exchange({false, source.rank, c});
      program.push_back({c, {}});
      const int next = r + (c.is_forward() ? 1 : -1);
      if (next >= 0 && next < ranks) exchange({true, next, c});
    }
    programs.push_back(std::move(program));
  }
  return programs;
}

// Neighbours that send to each other at once wait for ever, unless each receives beside its send.
TEST(Simulation, WithoutGroupsNeighboursWaitForEver) {
  EXPECT_TRUE(simulate(naive_programs(4, 8, true), 1, unit_costs()).completes());
  const Simulation s = simulate(naive_programs(4, 8, false), 1, unit_costs());
  EXPECT_FALSE(s.completes());
  EXPECT_NE(s.deadlock.find("of 4 waits for ever before"), std::string::npos) << s.deadlock;
}

// A lowered program's transfers, one after the other instead of in groups.
std::vector<Program> ungrouped(std::vector<Program> programs, bool receives_first) {
  for (Program& program : programs) {
    Program single;
    for (Step& step : program) {
      if (step.exchange.empty()) single.push_back(step);
      if (receives_first) std::ranges::stable_partition(step.exchange, [](const Transfer& t) { return !t.send; });
      for (const Transfer& t : step.exchange) single.push_back({{}, {t}});
    }
    program = std::move(single);
  }
  return programs;
}

// A group may be taken apart in the order of all messages, which alone keeps ranks from waiting for ever; not in
// another, such as what a rank awaits first. A group that is left out is waited for.
TEST(Simulation, LoweredProgramsWithoutTheirGroups) {
  for (const auto name : schedule_names()) {
    const auto programs = lower(find_schedule(name), 4, 8, 1);
    const auto run = [](const std::vector<Program>& p) { return simulate(p, 1, unit_costs()); };
    EXPECT_TRUE(run(ungrouped(programs, false)).completes()) << name;
    const Simulation awaiting = run(ungrouped(programs, true));
    EXPECT_FALSE(awaiting.completes()) << name;
    EXPECT_NE(awaiting.deadlock.find("rank 0 of 4 waits for ever before"), std::string::npos) << awaiting.deadlock;
    for (size_t r = 0; r < programs.size(); ++r) {
      for (size_t i = 0; i < programs[r].size(); ++i) {
        if (programs[r][i].exchange.empty()) continue;
        auto without = programs;
        without[r].erase(without[r].begin() + static_cast<int64_t>(i));
        const Simulation s = run(without);
        EXPECT_FALSE(s.completes()) << name << ": rank " << r << " without step " << i;
        EXPECT_NE(s.deadlock.find("of 4 "), std::string::npos) << s.deadlock;
      }
    }
  }
}

// Every message has both its sides, and those of a pair of ranks come in one order on both.
TEST(Lowering, BothSidesAgree) {
  for (const auto name : schedule_names()) {
    for (const int ranks : {2, 3, 5}) {
      for (const int pieces : {1, 3}) {
        if (pieces > 1 && !find_schedule(name).takes_pieces) continue;
        const auto programs = lower(find_schedule(name), ranks, 7, pieces);
        const auto messages = [&](int rank, int peer, bool send) {
          std::vector<Compute> all;
          for (const Step& step : programs[rank])
            for (const Transfer& t : step.exchange)
              if (t.peer == peer && t.send == send)
                all.push_back(send ? t.pass : source_of(t.pass, rank, ranks, pieces).pass);
          return all;
        };
        for (int a = 0; a < ranks; ++a) {
          for (int b = 0; b < ranks; ++b) {
            const auto sent = messages(a, b, true), taken = messages(b, a, false);
            ASSERT_EQ(sent.size(), taken.size());
            for (size_t i = 0; i < sent.size(); ++i) {
              EXPECT_EQ(sent[i].microbatch, taken[i].microbatch);
              EXPECT_EQ(sent[i].piece, taken[i].piece);
              EXPECT_EQ(sent[i].is_forward(), taken[i].is_forward());
            }
          }
        }
      }
    }
  }
}

std::vector<Compute> backwards_first(const PipeShape& s) {
  using enum Compute::Pass;
  if (s.rank == 0) return {{backward, 0}, {forward, 0}};
  return {{forward, 0}, {backward, 0}};
}

TEST(Lowering, RefusesPlansThatWaitForEver) {
  expect_error(Exit::bad_input, {"backwards_first", "rank 0 of 2", "backward of microbatch 0"}, [] {
    lower({"backwards_first", backwards_first, false}, 2, 1, 1);
  });
}

}  // namespace
}  // namespace gf
