// SPDX-License-Identifier: Apache-2.0
// A run that was stopped, however it was stopped, and went on ends with the same bits as one that never stopped:
// metrics, parameters and moments.
#include <csignal>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "end_to_end/tiny_training.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"

namespace gf {
namespace {

const Options kPlain = {};
// All that has a state of its own or may be keyed by the wrong number: dropout, microbatches, recompute, validation.
const Options kEverything = {{"model.dropout", "0.2"},    {"train.accumulate_grad_batches", "2"},
                             {"train.grad_cp", "1"},      {"train.weight_decay", "0.1"},
                             {"train.warmup_steps", "5"}, {"train.val_check_interval", "3"}};

Options with(Options changes, const Options& base) {
  changes.insert(base.begin(), base.end());
  return changes;
}

class Resume : public TinyTraining, public testing::WithParamInterface<std::string> {
 protected:
  Resume() {
    if (GetParam() != "everything") return;
    for (const auto& [key, value] : kEverything) options_[key] = value;
    options_["train.validation_data_file"] = data_set("validation", random_tokens(400, 65, 2));
  }
};

INSTANTIATE_TEST_SUITE_P(Of, Resume, testing::Values("plain", "everything"),
                         [](const auto& test) { return test.param; });

TEST_P(Resume, AfterEveryStep) {
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  ASSERT_EQ(whole.metrics.size(), 12u);
  for (int steps = 1; steps < 12; ++steps) trained({{"train.max_steps", std::to_string(steps)}});
  expect_same(trained(), whole);
}

TEST_P(Resume, AfterLongerPieces) {
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  for (const char* steps : {"1", "6", "11"}) {
    trained({{"train.proj_suffix", steps}, {"train.max_steps", steps}});
    expect_same(trained({{"train.proj_suffix", steps}}), whole);
  }
}

class Interrupted : public TinyTraining {
 protected:
  Interrupted() { options_["train.max_steps"] = "300"; }

  Process start(const Options& changes = {}) const {
    return {"gf-dist-train", arguments(changes), {{"OMP_NUM_THREADS", "1"}}};
  }
  bool took_steps(int since, int steps) const { return count_lines(metrics_text("0")) >= since + steps; }
  // Some time that differs each round, to hit other places of a step or a save.
  static void wait_a_little(int round, int64_t most_us) {
    const auto us = Random(3, "moment").bits(static_cast<uint64_t>(round)) % static_cast<uint64_t>(most_us);
    std::this_thread::sleep_for(std::chrono::microseconds(us));
  }

  // Rounds of: some steps, the signals, status 75; until one gets to the end. Each saves on its way out.
  void interrupt_with(const std::vector<int>& signals) {
    const Outcome whole = trained({{"train.proj_suffix", "whole"}});
    int stops = 0;
    for (bool done = false; !done; ++stops) {
      ASSERT_LT(stops, 300) << "no progress";
      const int before = count_lines(metrics_text("0"));
      Process process = start();
      process.wait_until([&] { return took_steps(before, 20); });
      wait_a_little(stops, 5000);
      for (const int signal : signals) process.send(signal);
      const ProgramResult result = process.wait();
      done = result.status == 0;
      if (done) break;
      ASSERT_EQ(result.status, 75) << result.err;
      EXPECT_EQ(result.err, "");
      EXPECT_NE(result.out.find("run the same command to go on"), std::string::npos) << result.out;
      EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, count_lines(metrics_text("0")));
    }
    EXPECT_GE(stops, 1) << "the run was never stopped";
    expect_same(outcome("0"), whole);
  }
};

TEST_F(Interrupted, BySigterm) {
  interrupt_with({SIGTERM});
}

TEST_F(Interrupted, BySigusr1) {
  interrupt_with({SIGUSR1});
}

TEST_F(Interrupted, ByTwoSignalsAtOnce) {
  interrupt_with({SIGUSR1, SIGTERM});
}

// The run folder is taken before the first step, and from then on there is something to lose.
TEST_F(Interrupted, BeforeTheFirstStep) {
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  Process process = start();
  ASSERT_TRUE(process.wait_until([&] { return std::filesystem::exists(run("0") / "lock"); }));
  process.send(SIGTERM);
  EXPECT_EQ(process.wait().status, 75);
  expect_same(trained(), whole);
}

TEST_F(Interrupted, ByASecondSigintAtOnce) {
  // One step of a million microbatches, so that the first signal, which waits for the step's end, cannot end it.
  const Options long_step = {{"train.accumulate_grad_batches", "1000000"}, {"train.my_exit_tokens", "1000000000"}};
  Process process = start(long_step);
  ASSERT_TRUE(process.wait_until([&] { return process.out().find("start ") != std::string::npos; }));
  // Two that come before the first is handled count as one, so: until it ends.
  process.wait_until([&] {
    process.send(SIGINT);
    return !process.running();
  });
  EXPECT_EQ(process.wait().status, 128 + SIGINT);
  EXPECT_FALSE(newest_checkpoint(checkpoints("0")));
}

// With a save after every step, which takes longer than the step itself. Where a round was hit is left to chance.
TEST_F(Interrupted, ByKillWhileStartingSteppingAndSaving) {
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  const auto newest_step = [&] {
    const auto newest = newest_checkpoint(checkpoints("0"));
    return newest ? newest->step : 0;
  };
  int killed = 0;
  for (int round = 0; round < 18; ++round) {
    const int64_t step = newest_step();
    Process process = start({{"train.save_every_steps", "1"}, {"train.keep_checkpoints", "2"}});
    if (round % 6 == 5) {
      process.wait_until([&] { return std::filesystem::exists(run("0") / "lock"); });
    } else if (round % 2) {
      process.wait_until([&] { return newest_step() > step; });
    } else {
      process.wait_until([&] { return took_steps(static_cast<int>(step), 1); });
    }
    wait_a_little(round, 40'000);
    process.send(SIGKILL);
    killed += process.wait().status == 128 + SIGKILL;
    EXPECT_GE(newest_step(), step);
    if (newest_step() > 0) CheckpointReader(checkpoints("0")).verify();
  }
  EXPECT_GE(killed, 10);
  EXPECT_GE(newest_step(), 5);
  expect_same(trained(), whole);
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints("0")))
    EXPECT_TRUE(std::filesystem::exists(entry.path() / kDoneFile)) << entry.path() << " was left behind";
}

// A checkpoint without DONE does not exist: the run goes on from the one before.
TEST_F(Interrupted, AndTheNewestCheckpointWasNeverFinished) {
  const Options save = {{"train.max_steps", "12"}, {"train.save_every_steps", "4"}};
  const Outcome whole = trained(with({{"train.proj_suffix", "whole"}}, save));
  trained(save);
  std::filesystem::remove(checkpoints("0") / "step-00000012" / kDoneFile);
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 8);
  const ProgramResult again = train(save);
  EXPECT_NE(again.out.find("step 8 of this run"), std::string::npos) << again.out;
  expect_same(outcome("0"), whole);

  std::filesystem::remove_all(checkpoints("0"));  // none at all: from the beginning
  expect_same(trained(save), whole);
}

TEST_F(Interrupted, AndDoneAlready) {
  trained();
  const auto before = contents(run("0"));
  const ProgramResult again = train({{"train.lr_init", "0.5"}});  // nothing of which is true of the run
  EXPECT_EQ(again.status, 0);
  EXPECT_NE(again.out.find("nothing to do"), std::string::npos) << again.out;
  EXPECT_EQ(contents(run("0")), before);
}

}  // namespace
}  // namespace gf
