// SPDX-License-Identifier: Apache-2.0
#include "parallel/timeline.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/traced_work.h"
#include "support/expect_error.h"

namespace gf {
namespace {

using Pass = Compute::Pass;

// As the simulator runs a schedule: a second for each unit of cost, `steps` times, a second apart, with the passes of
// rank r `slower[r]` times as long.
TracedRun ideal(const std::string& schedule, int ranks, int microbatches, int pieces, int steps,
                const std::vector<double>& slower = {}) {
  TracedRun run{.schedule = schedule, .pipeline = ranks, .data = 1, .pieces = pieces, .microbatches = microbatches};
  run.nodes.resize(ranks);
  run.timelines.resize(ranks);
  const auto cost = [&](int r, const Compute& c) {
    return (c.pass == Pass::backward ? 2 : 1) * (slower.empty() ? 1 : slower[r]);
  };
  const Simulation s = simulate(lower(find_schedule(schedule), ranks, microbatches, pieces), pieces, {cost, 0});
  for (int step = 0; step < steps; ++step) {
    const double begin = 10 + step * (s.time + 1);
    for (int r = 0; r < ranks; ++r) {
      Timeline& t = run.timelines[r];
      t.steps.push_back({begin, begin + s.time});
      for (const PassSpan& p : s.passes[r]) t.passes.push_back({p.pass, begin + p.begin, begin + p.end});
    }
  }
  return run;
}

// One pass forward, from 2 to 4, and one backward, from 5 to 9, on one rank in a step from 0 to 12; `data` such ranks.
TracedRun plain(int data) {
  TracedRun run{.schedule = "one_f_one_b", .data = data};
  run.nodes.resize(data);
  for (int r = 0; r < data; ++r)
    run.timelines.push_back({.steps = {{0, 12}},
                             .passes = {{{Pass::forward}, 2, 4}, {{Pass::backward}, 5, 9}},
                             .phases = {{"data", {0, 2}}, {"optimizer", {9, 11}}},
                             .waits = {},
                             .transfers = {}});
  return run;
}

TEST(Timeline, OfAnIdealRunTheBubbleIsThatOfTheFormula) {
  for (const auto& [schedule, pieces] :
       {std::pair("gpipe", 1), {"one_f_one_b", 1}, {"interleaved", 2}, {"zero_bubble", 1}}) {
    for (const int ranks : {1, 2, 4}) {
      const TracedRun run = ideal(schedule, ranks, 8, pieces, 3);
      check(run);
      const TraceSummary s = summarize(run);
      EXPECT_NEAR(s.all.bubble(), s.formula, 1e-12) << schedule << " on " << ranks;
      EXPECT_NEAR(s.formula_of_passes, s.formula, 1e-12);
      ASSERT_EQ(s.bubbles.size(), 3u);
      for (const double b : s.bubbles) EXPECT_NEAR(b, s.formula, 1e-12);
      double mean = 0;
      for (const RankTimes& t : s.ranks) mean += t.bubble() / ranks;
      EXPECT_NEAR(mean, s.formula, 1e-12);
    }
  }
  // (p - 1) / (m + p - 1)
  EXPECT_NEAR(summarize(ideal("one_f_one_b", 4, 8, 1, 1)).formula, 3.0 / 11, 1e-12);
}

// The slow rank is hardly idle, the others wait for it.
TEST(Timeline, UnevenRanksAreSeenInTheMeasuredFormula) {
  const TracedRun run = ideal("one_f_one_b", 2, 8, 1, 2, {1, 2});
  const TraceSummary s = summarize(run);
  EXPECT_NEAR(s.all.bubble(), s.formula_of_passes, 1e-12);
  // Rank 1 works 8 x 6 of 1 + 48 + 2; rank 0 half as long.
  EXPECT_NEAR(s.ranks[1].bubble(), 1 - 48.0 / 51, 1e-12);
  EXPECT_NEAR(s.ranks[0].bubble(), 1 - 24.0 / 51, 1e-12);
  EXPECT_NEAR(s.formula, 1.0 / 9, 1e-12);
}

TEST(Timeline, ComputingIsWhatIsNotWaiting) {
  TracedRun run = plain(1);
  // In a phase that does not compute, in a pass, between passes, and in the optimizer.
  run.timelines[0].waits = {{"a", {1, 2}}, {"b", {3, 3.5}}, {"c", {4, 5}}, {"b", {9, 9.25}}};
  const TraceSummary s = summarize(run);
  EXPECT_DOUBLE_EQ(s.all.steps, 12);
  EXPECT_DOUBLE_EQ(s.all.computing, 1.5 + 4 + 1.75);
  EXPECT_DOUBLE_EQ(s.all.waiting, 2.75);
  EXPECT_DOUBLE_EQ(s.all.pipeline, 7);
  EXPECT_DOUBLE_EQ(s.all.passes, 5.5);
  EXPECT_DOUBLE_EQ(s.all.bubble(), 1 - 5.5 / 7);
  EXPECT_EQ(s.formula, 0);
  EXPECT_EQ(s.all.communication, 0);
  EXPECT_EQ(s.all.overlap(), 0);
}

TEST(Timeline, WaitsOfANameAndPhaseAreAddedUp) {
  TracedRun run = plain(2);
  run.timelines[1].waits = {
      {"all", {0, 1}}, {"gather", {2.5, 3}}, {"gather", {5, 7.25}}, {"all", {10, 10.5}}, {"all", {13, 20}}};
  const auto waits = summarize(run).waits;
  ASSERT_EQ(waits.size(), 3u) << "what lies outside of the steps does not count";
  EXPECT_EQ(waits[0].what, "gather");
  EXPECT_EQ(waits[0].rank, 1);
  EXPECT_EQ(waits[0].count, 2);
  EXPECT_DOUBLE_EQ(waits[0].seconds, 2.75);
  EXPECT_EQ(waits[1].what, "data: all");
  EXPECT_EQ(waits[2].what, "optimizer: all");
}

TEST(Timeline, OverlapIsTheShareOfCommunicationBehindComputing) {
  TracedRun run = plain(2);
  // Under way from 7, when both have begun it; rank 0 computes until 9 and then waits, rank 1 sees the end later.
  run.timelines[0].transfers = {{.name = "reduce", .at = {6, 9.5}}};
  run.timelines[1].transfers = {{.name = "reduce", .at = {7, 10}}};
  run.timelines[0].waits = {{"reduce", {9, 9.5}}};
  const TraceSummary s = summarize(run);
  EXPECT_DOUBLE_EQ(s.ranks[0].communication, 2.5);
  EXPECT_DOUBLE_EQ(s.ranks[0].overlap(), 2 / 2.5);
  EXPECT_DOUBLE_EQ(s.ranks[1].communication, 3);
  EXPECT_DOUBLE_EQ(s.ranks[1].overlap(), 1) << "the optimizer computes too";
  EXPECT_DOUBLE_EQ(s.all.overlap(), 5 / 5.5);
}

TEST(Timeline, TransfersAtOnceCountOnce) {
  TracedRun run = plain(1);
  run.timelines[0].transfers = {
      {.name = "reduce", .at = {3, 4.5}}, {.name = "gather", .at = {4, 6}}, {.name = "gather", .at = {11.5, 20}}};
  const TraceSummary s = summarize(run);
  EXPECT_DOUBLE_EQ(s.all.communication, 3.5) << "within the step";
  EXPECT_DOUBLE_EQ(s.all.hidden, 2) << "not from 4 to 5";
}

// Two pipelines of two ranks: rank = 2 stage + data rank.
TEST(Timeline, TransfersOfAGroupBelongTogether) {
  TracedRun run{.schedule = "one_f_one_b", .pipeline = 2, .data = 2};
  run.timelines.resize(4);
  const auto message = [](const char* name, int peer, double begin, double end) {
    return Timeline::Transfer{.name = name, .at = {begin, end}, .peer = peer};
  };
  run.timelines[0].transfers = {message(kSend, 1, 1, 4), message(kReceive, 1, 1, 9), message(kSend, 1, 5, 6)};
  run.timelines[2].transfers = {message(kReceive, 0, 2, 5), message(kReceive, 0, 3, 7), message(kSend, 0, 8, 8.5)};
  // The other pipeline is not theirs.
  run.timelines[3].transfers = {message(kReceive, 0, 1, 3)};
  const auto under = under_way(run);
  EXPECT_EQ(under[0], (std::vector<Interval>{{2, 4}, {8, 9}, {5, 6}}));
  EXPECT_EQ(under[2], (std::vector<Interval>{{2, 5}, {5, 7}, {8, 8.5}}));
  EXPECT_EQ(under[3], (std::vector<Interval>{{1, 3}}));

  for (auto& t : run.timelines) t.transfers.clear();
  const auto collective = [](const char* name, double begin) {
    return Timeline::Transfer{.name = name, .at = {begin, 20}};
  };
  for (int r = 0; r < 4; ++r)
    run.timelines[r].transfers = {collective("reduce", r), collective(kReduceBetweenStages, r),
                                  collective("gather", 8 - r), collective("reduce", 9 + r)};
  const auto together = under_way(run);
  const auto begins = [&](int rank) {
    std::vector<double> all;
    for (const Interval& i : together[rank]) all.push_back(i.begin);
    return all;
  };
  EXPECT_EQ(begins(0), (std::vector<double>{1, 2, 8, 10})) << "with rank 1 in its stage, with rank 2 between stages";
  EXPECT_EQ(begins(1), (std::vector<double>{1, 3, 8, 10}));
  EXPECT_EQ(begins(2), (std::vector<double>{3, 2, 6, 12}));
  EXPECT_EQ(begins(3), (std::vector<double>{3, 3, 6, 12}));
}

TEST(Timeline, OnlyAWholeTraceIsTaken) {
  const auto refused = [](const std::vector<std::string>& pieces, const std::function<void(TracedRun&)>& damage) {
    TracedRun run = ideal("one_f_one_b", 2, 3, 1, 2);
    check(run);
    damage(run);
    expect_refused(pieces, [&] { check(run); });
  };
  refused({"pipeline 3 x data 1", "2 ranks"}, [](auto& run) { run.pipeline = 3; });
  refused({"data 2147483647"}, [](auto& run) { run.data = 2147483647; });
  refused({"0 microbatches"}, [](auto& run) { run.microbatches = 0; });
  refused({"there is no such schedule"}, [](auto& run) { run.schedule = "best"; });
  refused({"one_f_one_b does not run 2 pieces"}, [](auto& run) { run.pieces = 2; });
  refused({"rank 0 has 12 passes of 2147483647 microbatches"}, [](auto& run) { run.microbatches = 2147483647; });
  refused({"rank 1 has 1 steps and rank 0 has 2"}, [](auto& run) { run.timelines[1].steps.pop_back(); });
  refused({"rank 0 has 0 steps"}, [](auto& run) {
    for (auto& t : run.timelines) t.steps.clear();
  });
  refused({"5 passes of rank 1 in step 1 are not the 6 of one_f_one_b"},
          [](auto& run) { run.timelines[1].passes.pop_back(); });
  refused({"6 passes of rank 0 in step 0 are not the 6 of one_f_one_b"},
          [](auto& run) { run.timelines[0].passes[1].pass.microbatch = 2; });
}

}  // namespace
}  // namespace gf
