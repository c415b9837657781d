// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/simulation.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/expect_error.h"

namespace gf {
namespace {

Simulation simulated(const std::string& name, int ranks, int microbatches, int pieces = 1) {
  return simulate(lower(find_schedule(name), ranks, microbatches, pieces), pieces, unit_costs());
}

TEST(Simulation, EveryScheduleCompletes) {
  for (const auto name : schedule_names()) {
    for (int ranks = 1; ranks <= 16; ++ranks) {
      for (int microbatches = 1; microbatches <= 64; microbatches += microbatches < 20 ? 1 : 11) {
        for (int pieces = 1; pieces <= (find_schedule(name).takes_pieces ? 4 : 1); ++pieces) {
          const Simulation s = simulated(std::string(name), ranks, microbatches, pieces);
          ASSERT_TRUE(s.completes) << name << " " << ranks << " ranks, " << microbatches << " microbatches, " << pieces
                                   << " pieces: " << s.deadlock;
        }
      }
    }
  }
}

// Idle time over busy time. Narayanan et al. 2021 for 1F1B and its interleaved kind; Qi et al. 2023 for ZB-H1, whose
// fill and drain are (p - 1)(F + B - W) long.
TEST(Simulation, BubblesAreThoseOfTheFormulas) {
  for (const int p : {1, 2, 4, 8}) {
    for (const int m : {8, 16, 32}) {
      const auto overhead = [&](const std::string& name, int pieces = 1) {
        const Simulation s = simulated(name, p, m, pieces);
        EXPECT_DOUBLE_EQ(s.bubble(), 1 - s.busy / s.time);
        return s.time / s.busy - 1;
      };
      const double fill = static_cast<double>(p - 1) / m;
      EXPECT_NEAR(overhead("gpipe"), fill, 1e-12);
      EXPECT_NEAR(overhead("one_f_one_b"), fill, 1e-12);
      for (const int v : {1, 2, 4})
        EXPECT_NEAR(overhead("interleaved", v), fill / v, 1e-12) << p << " " << m << " " << v;
      EXPECT_NEAR(overhead("zero_bubble"), fill / 3, 1e-12) << p << " " << m;
    }
  }
}

// In a second or so, on a machine with nothing else to do.
TEST(Simulation, ThousandsOfRanks) {
  constexpr int kRanks = 4096, kMicrobatches = 16;
  for (const auto name : schedule_names()) {
    const int pieces = find_schedule(name).takes_pieces ? 2 : 1;
    const Simulation s = simulated(std::string(name), kRanks, kMicrobatches, pieces);
    ASSERT_TRUE(s.completes) << name << ": " << s.deadlock;
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
  EXPECT_TRUE(simulate(naive_programs(4, 8, true), 1, unit_costs()).completes);
  const Simulation s = simulate(naive_programs(4, 8, false), 1, unit_costs());
  EXPECT_FALSE(s.completes);
  EXPECT_NE(s.deadlock.find("of 4 waits for ever before"), std::string::npos) << s.deadlock;
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
