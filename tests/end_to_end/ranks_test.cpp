// SPDX-License-Identifier: Apache-2.0
// gf-dist-train under mpirun: the mathematics of one rank, whatever the layout.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "end_to_end/many_ranks.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "support/files.h"
#include "support/run_program.h"
#include "train/trace_file.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

TEST_F(ManyRanks, TrainTheModelOfOneRank) {
  options_["train.validation_data_file"] = data_set("validation", random_tokens(400, 65, 2));
  options_["train.val_check_interval"] = "2";
  trained({{"train.proj_suffix", "one"}});
  struct Layout {
    int ranks;
    const char *pipeline, *zero, *schedule, *pieces;
    bool same_bits;
  };
  // The key expansion of GOLD stages is shared where there are two of them: not in two stages of this model.
  for (const Layout& l : {Layout{2, "2", "auto", "one_f_one_b", "1", true},
                          {3, "3", "auto", "zero_bubble", "1", true},
                          {2, "2", "auto", "interleaved", "2", false},
                          {2, "1", "0", "gpipe", "1", false},
                          {2, "1", "1", "one_f_one_b", "1", false},
                          {4, "2", "2", "zero_bubble", "1", false},
                          {4, "1", "3", "one_f_one_b", "1", false}}) {
    const std::string suffix = cat(l.ranks, "-", l.pipeline, "-", l.zero, "-", l.schedule);
    SCOPED_TRACE(suffix);
    const ProgramResult result = train_on(l.ranks, {{"train.proj_suffix", suffix},
                                                    {"parallel.pipeline", l.pipeline},
                                                    {"parallel.zero", l.zero},
                                                    {"parallel.schedule", l.schedule},
                                                    {"parallel.pieces", l.pieces}});
    ASSERT_EQ(result.status, 0) << result.out << result.err;
    expect_close(suffix, "one");
    EXPECT_TRUE(metrics(suffix)[1].contains("val_loss"));
    if (l.same_bits) {
      EXPECT_TRUE(state(suffix) == state("one"));
    }
  }
}

// Where there is nobody to share with, sharding is no error, and changes nothing.
TEST_F(ManyRanks, OneRankShardsNothing) {
  const Outcome whole = trained({{"train.proj_suffix", "0"}, {"parallel.zero", "0"}});
  for (const char* zero : {"1", "2", "3"})
    expect_same(trained({{"train.proj_suffix", zero}, {"parallel.zero", zero}}), whole);
}

// From one layout to another, up and down.
TEST_F(ManyRanks, GoOnOnAnotherLayout) {
  trained({{"train.proj_suffix", "one"}});
  struct Leg {
    int ranks;
    const char *pipeline, *zero;
  };
  const std::vector<std::pair<Leg, Leg>> pairs = {{{1, "1", "0"}, {2, "2", "0"}}, {{2, "2", "0"}, {1, "1", "0"}},
                                                  {{2, "1", "1"}, {4, "2", "2"}}, {{4, "2", "2"}, {2, "1", "3"}},
                                                  {{4, "1", "3"}, {3, "3", "0"}}, {{3, "3", "0"}, {4, "1", "1"}}};
  int number = 0;
  for (const auto& [first, second] : pairs) {
    const std::string suffix = cat("pair", number++);
    SCOPED_TRACE(suffix);
    for (const auto& [leg, steps] : {std::pair(first, "2"), std::pair(second, "5")}) {
      const ProgramResult result = train_on(leg.ranks, {{"train.proj_suffix", suffix},
                                                        {"parallel.pipeline", leg.pipeline},
                                                        {"parallel.zero", leg.zero},
                                                        {"train.max_steps", steps}});
      ASSERT_EQ(result.status, 0) << result.out << result.err;
    }
    expect_close(suffix, "one");
  }
}

// Wherever the launcher put the ranks: what is heavier stays within a node, a run has the bits of any other placement,
// and goes on from it. Two layers' activations of 128 sequences are heavier than their gradients.
TEST_F(ManyRanks, RanksOfANodeBecomeNeighbours) {
  for (const auto& [microbatches, said] :
       {std::pair("4", "gradients go within a node, activations between nodes; data ranks are neighbours"),
        {"64", "gradients go between nodes, activations within a node; stages are neighbours"}}) {
    SCOPED_TRACE(said);
    const auto on = [&](const std::vector<std::string>& nodes, const std::string& suffix, const char* steps) {
      const ProgramResult result = train_on_nodes(nodes, {{"train.proj_suffix", suffix},
                                                          {"train.max_steps", steps},
                                                          {"train.accumulate_grad_batches", microbatches},
                                                          {"model.n_layer", "2"},
                                                          {"parallel.pipeline", "2"},
                                                          {"parallel.zero", "1"}});
      EXPECT_EQ(result.status, 0) << result.out << result.err;
      return result.out;
    };
    const std::string one = cat("one", microbatches), two = cat("two", microbatches);
    const std::string at_once = on({"a", "a", "a", "a"}, one, "3");
    EXPECT_NE(at_once.find("gradients go within a node, activations within a node\n"), std::string::npos) << at_once;
    for (const auto& [nodes, steps] :
         {std::pair(std::vector<std::string>{"a", "b", "a", "b"}, "1"), {{"b", "b", "a", "a"}, "3"}}) {
      const std::string out = on(nodes, two, steps);
      EXPECT_NE(out.find(said), std::string::npos) << out;
      EXPECT_NE(out.find("4 ranks on 2 nodes"), std::string::npos) << out;
    }
    EXPECT_TRUE(state(one) == state(two));
    const auto want = metrics(one), got = metrics(two);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i)
      for (const char* key : {"loss", "grad_norm"})
        EXPECT_EQ(got[i].at(key), want[i].at(key)) << key << " of step " << i;
  }
}

#if !defined(GF_SANITIZED)  // which takes more
// The first rank's, as a share of what it took: with what other ranks' gradients come into. 25 million parameters, so
// that what the libraries take and nobody reckons counts little; a save goes on beside each step, which takes its copy.
TEST_F(ManyRanks, TakesTheMemoryThatTheBannerSays) {
  const Options wide = {{"model.n_embd", "512"},        {"model.head_size", "64"},    {"model.n_layer", "6"},
                        {"model.ctx_len", "64"},        {"model.vocab_size", "4096"}, {"train.max_steps", "3"},
                        {"train.save_every_steps", "1"}};
  struct Layout {
    int ranks;
    const char *pipeline, *zero, *bucket_mb;
  };
  // With many data ranks under zero 3 all that a rank holds at the start of a run or of its continuation must be
  // little.
  for (const Layout& l : {Layout{4, "1", "1", "auto"},
                          {2, "1", "0", "auto"},
                          {2, "1", "2", "20"},
                          {2, "1", "3", "20"},
                          {8, "1", "3", "4"}}) {
    Options options = wide;
    const std::string suffix = cat(l.ranks, "-", l.pipeline, "-", l.zero, "-", l.bucket_mb);
    options.merge(Options{{"parallel.pipeline", l.pipeline},
                          {"parallel.zero", l.zero},
                          {"parallel.bucket_mb", l.bucket_mb},
                          {"train.accumulate_grad_batches", "8"},
                          {"train.proj_suffix", suffix}});
    for (const char* steps : {"3", "5"}) {
      if (l.ranks < 8 && steps[0] == '5') continue;
      options["train.max_steps"] = steps;
      const ProgramResult result = train_on(l.ranks, options);
      ASSERT_EQ(result.status, 0) << result.out << result.err;
      const double said = megabytes_in(result.out, "memory +([0-9.]+) (MB|GB) in all"),
                   taken = megabytes_in(result.out, "peak memory ([0-9.]+) (MB|GB)");
      EXPECT_GT(megabytes_in(result.out, ", ([0-9.]+) (MB|GB) reductions, "), 0) << result.out;
      EXPECT_GT(taken, 0);
      EXPECT_NEAR(said / taken, 1, 0.1) << suffix << " to " << steps << ": " << said << " MB said, " << taken
                                        << " taken";
    }
    fs::remove_all(run(suffix));
  }
}
#endif

// A rank killed at any moment, also while it saves: the job ends, and the same command goes on to the same bits.
// GF_CHAOS_ROUNDS sets how often.
TEST_F(ManyRanks, SurviveKills) {
  const char* const wanted = std::getenv("GF_CHAOS_ROUNDS");
#if defined(GF_SANITIZED)
  constexpr int kRounds = 1;  // whose steps take twenty times as long
#else
  constexpr int kRounds = 4;
#endif
  const int rounds = wanted ? std::atoi(wanted) : kRounds;
  const Options run_to = {{"train.max_steps", std::to_string(10 * (rounds + 1))},
                          {"train.save_every_steps", "2"},
                          {"parallel.pipeline", "2"},
                          {"parallel.zero", "2"}};
  const auto with_suffix = [&](const char* suffix) {
    Options options = run_to;
    options["train.proj_suffix"] = suffix;
    return options;
  };
  ASSERT_EQ(train_on(4, with_suffix("whole")).status, 0);
  int killed = 0;
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    const auto before = std::ssize(metrics("0"));
    Process job = start_on(4, with_suffix("0"));
    const Random random(5, "kill");
    if (round % 4 == 1) {  // while ranks start, or read what they go on from
      job.wait_until([&] { return std::ssize(job.children()) == 4; });
      std::this_thread::sleep_for(std::chrono::milliseconds(random.bits(3 * round) % 700));
    } else {  // by steps and not by the clock alone, so that no machine is done before it is killed
      const auto steps = static_cast<int64_t>(1 + random.bits(3 * round) % 6);
      job.wait_until([&] { return std::ssize(metrics("0")) > before + steps; });
      std::this_thread::sleep_for(std::chrono::microseconds(random.bits(3 * round + 1) % 10'000));
    }
    const auto ranks = job.children();
    if (std::ssize(ranks) == 4) kill(ranks[random.bits(3 * round + 2) % 4], SIGKILL);
    killed += job.wait().status != 0;
    if (newest_checkpoint(checkpoints("0"))) CheckpointReader(checkpoints("0")).verify();
  }
  EXPECT_GE(killed, (rounds + 1) / 2);
  ASSERT_EQ(train_on(4, with_suffix("0")).status, 0);
  EXPECT_TRUE(state("0") == state("whole"));
  const auto got = metrics("0"), want = metrics("whole");
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].at("loss"), want[i].at("loss"));
}

// A signal to one rank stops all at one step, and they save it.
TEST_F(ManyRanks, StopTogether) {
  const Options changes = {
      {"train.max_steps", "100000"}, {"train.my_exit_tokens", "1000000000"}, {"parallel.pipeline", "2"}};
  Process job = start_on(4, changes);
  ASSERT_TRUE(job.wait_until([&] { return metrics("0").size() > 2; }));
  const auto ranks = job.children();
  ASSERT_EQ(ranks.size(), 4u);
  kill(ranks[2], SIGTERM);
  const ProgramResult result = job.wait();
  EXPECT_EQ(result.status, 75) << result.err;
  EXPECT_NE(result.out.find("run the same command to go on"), std::string::npos) << result.out;
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, std::ssize(metrics("0")));
}

// Of the time the first rank's clock counts, and all stop at its step.
TEST_F(ManyRanks, StopInTime) {
  const ProgramResult result = train_on(
      2, {{"train.max_steps", "100000"}, {"train.my_exit_tokens", "1000000000"}, {"train.max_minutes", "0.05"}});
  EXPECT_EQ(result.status, 75) << result.err;
  EXPECT_NE(result.out.find("stopped by train.max_minutes after step"), std::string::npos) << result.out;
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, std::ssize(metrics("0")));
}

// Through launch/local.sh, in the middle of a step that takes longer than the second that mpirun itself would leave.
TEST_F(ManyRanks, StopThroughTheScript) {
  const Options slow = {{"train.max_steps", "1000"},
                        {"train.my_exit_tokens", "10000000000"},
                        {"train.accumulate_grad_batches", "400"},
                        {"parallel.pipeline", "2"}};
  for (const int signal : {SIGTERM, SIGINT}) {
    Process job = start_local(slow);
    const size_t before = metrics("0").size();
    ASSERT_TRUE(job.wait_until([&] { return metrics("0").size() > before; })) << job.wait().err;
    const size_t taken = metrics("0").size();
    job.send(signal);
    const ProgramResult result = job.wait();
    EXPECT_EQ(result.status, 75) << result.err;
    EXPECT_NE(result.out.find("stopped by SIGUSR1"), std::string::npos) << result.out;
    const auto newest = newest_checkpoint(checkpoints("0"));
    ASSERT_TRUE(newest) << result.out;
    EXPECT_EQ(newest->step, std::ssize(metrics("0")));
    EXPECT_LE(metrics("0").size(), taken + 1) << "more than the step that was under way";
  }
}

// A trace has what each rank did, in the order of its schedule, and what was on its way; it changes no bit, and the
// report shows the bubble.
TEST_F(ManyRanks, ATraceTellsWhatAllRanksDid) {
  struct Layout {
    int ranks;
    const char *pipeline, *zero, *schedule, *pieces;
  };
  for (const Layout& l : {Layout{2, "2", "auto", "one_f_one_b", "1"},
                          {2, "2", "auto", "interleaved", "2"},
                          {4, "2", "3", "zero_bubble", "1"}}) {
    const std::string suffix = cat(l.ranks, "-", l.schedule), plain = suffix + "-plain";
    SCOPED_TRACE(suffix);
    Options options = {{"parallel.pipeline", l.pipeline}, {"parallel.zero", l.zero}, {"parallel.schedule", l.schedule},
                       {"parallel.pieces", l.pieces},     {"train.max_steps", "4"},  {"train.proj_suffix", plain}};
    ASSERT_EQ(train_on(l.ranks, options).status, 0);
    options["train.proj_suffix"] = suffix;
    options["parallel.trace_steps"] = "2";
    const ProgramResult result = train_on(l.ranks, options);
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_TRUE(state(suffix) == state(plain));
    const auto traced = metrics(suffix), untraced = metrics(plain);
    ASSERT_EQ(traced.size(), 4u);
    for (size_t i = 0; i < traced.size(); ++i) EXPECT_EQ(traced[i].at("loss"), untraced[i].at("loss"));
    EXPECT_FALSE(fs::exists(run(plain) / "trace.json"));

    // Reading it compares each rank's passes, in number and order, with the schedule's.
    const auto trace = read_trace(run(suffix) / "trace.json");
    ASSERT_TRUE(trace);
    EXPECT_EQ(trace->schedule, l.schedule);
    EXPECT_EQ(trace->first_step, 1);
    ASSERT_EQ(std::ssize(trace->timelines), l.ranks);
    std::map<std::string, int> begun;
    for (int rank = 0; rank < l.ranks; ++rank) {
      const Timeline& t = trace->timelines[rank];
      EXPECT_EQ(t.steps.size(), 2u);
      for (const char* phase : {"data", "agree", "optimizer"})
        EXPECT_EQ(std::ranges::count(t.phases, phase, &Timeline::Span::name), 2) << phase << " on rank " << rank;
      for (const auto& transfer : t.transfers) ++begun[transfer.name];
      // One clock: rank 0 begins a step's first pass, and no other rank can before it has ended.
      const Timeline& below = trace->timelines[trace->data_rank(rank)];
      EXPECT_TRUE(trace->stage(rank) == 0 || t.passes[0].begin >= below.passes[0].end) << "rank " << rank;
    }
    EXPECT_GT(begun["send"], 0);
    EXPECT_EQ(begun["send"], begun["receive"]);
    EXPECT_EQ(begun["reduce"] > 0, trace->data > 1);
    EXPECT_EQ(begun["gather"] > 0, trace->data > 1);

    const ProgramResult report = run_program("gf", {"report", run(suffix)});
    EXPECT_EQ(report.status, 0) << report.err;
    const std::string page = read_file(run(suffix) / "report.html");
    EXPECT_NE(page.find("The bubble is <b>"), std::string::npos);
    const TraceSummary sum = summarize(*trace);
    EXPECT_GT(sum.all.bubble(), 0);
    EXPECT_LT(sum.all.bubble(), 1);
    EXPECT_GT(sum.all.communication, 0);
  }
}

}  // namespace
}  // namespace gf
