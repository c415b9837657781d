// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <set>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "io/checkpoint/checkpoint_saves.h"
#include "parallel/agreement.h"
#include "parallel/communicator_threads.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class CheckpointWriterTest : public CheckpointSaves {};

TEST_F(CheckpointWriterTest, WritesAndReplaces) {
  save(100);
  expect_newest(100);
  save(200);
  expect_newest(200);
  save(200);  // a run repeated from an older state
  expect_newest(200);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-00000100", "step-00000200"}));
}

TEST_F(CheckpointWriterTest, KeepsTheNewest) {
  for (const int64_t step : {1, 2, 3, 4}) save(step, 2);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-00000003", "step-00000004"}));
  save(5, 0);
  EXPECT_EQ(names().size(), 3u);
  save(2, 1);  // an older state again: those after it stay, and so does it
  EXPECT_EQ(names().size(), 4u);
}

// The promise for a power cut: a step folder gets its name, and DONE is made, only when all before is on disk, and no
// file of a checkpoint goes before that of its DONE is.
TEST_F(CheckpointWriterTest, APowerCutTakesNothingThatCounts) {
  for (const auto mode : {CheckpointWriter::Mode::at_once, CheckpointWriter::Mode::background}) {
    fs::remove_all(checkpoints_);
    FaultyDisk disk(folder_.path().string());
    int renamed = 0, done = 0;
    std::set<std::string> going;
    disk.before_name_change([&](const fs::path& from, const fs::path& to) {
      if (from.extension() == ".partial" && !to.empty()) {
        ++renamed;
        EXPECT_THAT(disk.unsynced(from), testing::ElementsAre());
      } else if (to.filename() == kDoneFile) {
        ++done;
        EXPECT_THAT(disk.unsynced(), testing::ElementsAre());
      } else if (to.empty() && from.extension() == ".h5" && going.insert(from.parent_path()).second) {
        EXPECT_FALSE(fs::exists(from.parent_path() / kDoneFile));
        EXPECT_THAT(disk.unsynced(), testing::Not(testing::Contains(from.parent_path().string())));
      }
    });
    save(100, 0, mode);
    EXPECT_THAT(disk.unsynced(), testing::ElementsAre());
    save(100, 0, mode);  // replaces it
    EXPECT_THAT(disk.unsynced(), testing::ElementsAre());
    EXPECT_EQ(std::exchange(going, {}).size(), 1u);
    save(200, 1, mode);  // and removes the older one
    EXPECT_THAT(disk.unsynced(), testing::ElementsAre());
    EXPECT_EQ(going.size(), 1u);
    EXPECT_EQ(renamed, 3);
    EXPECT_EQ(done, 3);
    EXPECT_EQ(names(), (std::vector<std::string>{"step-00000200"}));
  }
}

TEST_F(CheckpointWriterTest, SameStateGivesTheSameBytes) {
  save(1);
  const fs::path made = checkpoints_ / step_folder_name(1);
  const auto bytes = [&](const std::string& name) { return read_small_file(made / name, 1 << 20); };
  const std::string index = bytes(kIndexFile), part = bytes(part_file_name(0, 1));
  save(1);
  EXPECT_EQ(bytes(kIndexFile), index);
  EXPECT_EQ(bytes(part_file_name(0, 1)), part);
}

TEST_F(CheckpointWriterTest, RefusesNamesThatAreNoPath) {
  for (const std::string name : {"", "/a", "a/", "a//b", "a/./b"}) {
    const auto state = sample_state(0, {{name, {2}}});
    expect_error(Exit::failed, {"a tensor named"},
                 [&] { CheckpointWriter(checkpoints_, *self_, 0).write(sample_attributes(1), views_of(state)); });
  }
}

// The disk refuses the n-th call that changes it, for every n there is.
class FailingDisk : public CheckpointWriterTest,
                    public testing::WithParamInterface<std::pair<Fault, CheckpointWriter::Mode>> {};

TEST_P(FailingDisk, LeavesAWholeCheckpointNewest) {
  const auto [fault, mode] = GetParam();
  const std::string reason = fault == Fault::no_space ? "No space left" : "Input/output error";
  bool reached = true;
  int calls = 0, after_done = 0;
  for (; reached; ++calls) {
    fs::remove_all(checkpoints_);
    save(100);
    bool saved = true;
    {
      const FaultyDisk disk(checkpoints_.string(), fault, calls);
      try {
        save(200, 0, mode);
      } catch (const Error& e) {
        saved = false;
        EXPECT_EQ(static_cast<int>(e.status()), 1);
        const std::string what = e.what();
        for (const std::string& piece : {std::string("step 200 was not written"), checkpoints_.string(), reason,
                                         std::string("bytes, and the disk had")})
          EXPECT_NE(what.find(piece), std::string::npos) << piece << " is not in: " << what;
      }
      reached = disk.reached();
    }
    ASSERT_EQ(saved, !reached) << "call " << calls;
    // Where only the last syncs fail, and the removal too, the new one stays: it is whole.
    const bool is_done = fs::exists(checkpoints_ / step_folder_name(200) / kDoneFile);
    after_done += is_done && !saved;
    ASSERT_NO_FATAL_FAILURE(expect_newest(is_done ? 200 : 100)) << "call " << calls;
    ASSERT_TRUE(is_done || !saved);
  }
  EXPECT_GT(calls, 20);
  EXPECT_LE(after_done, 2);
  save(300);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-00000100", "step-00000200", "step-00000300"}));
}

INSTANTIATE_TEST_SUITE_P(Errors, FailingDisk,
                         testing::Values(std::pair(Fault::no_space, CheckpointWriter::Mode::at_once),
                                         std::pair(Fault::io_error, CheckpointWriter::Mode::at_once),
                                         std::pair(Fault::no_space, CheckpointWriter::Mode::background),
                                         std::pair(Fault::io_error, CheckpointWriter::Mode::background)));

// As on network file systems, where what was written may still fail then.
TEST_F(CheckpointWriterTest, NoFailureToCloseIsPassedOver) {
  save(100);
  bool reached = true;
  int calls = 0;
  for (; reached; ++calls) {
    const FaultyDisk disk(checkpoints_.string(), Fault::close_error, calls);
    std::string error;
    try {
      save(200);
    } catch (const Error& e) {
      error = e.what();
    }
    reached = disk.reached();
    EXPECT_EQ(error.find("cannot close") != std::string::npos, reached) << "call " << calls << ": " << error;
    expect_newest(newest_checkpoint(checkpoints_)->step);
    fs::remove_all(checkpoints_ / step_folder_name(200));
  }
  EXPECT_GE(calls, 4) << "a part, the index, DONE, and then none";
}

class CheckpointWriterThreads : public CheckpointWriterTest {
 protected:
  static constexpr int64_t kEndless = int64_t{1} << 50;

  // Of three ranks, one of which is given something wrong: all have the error, and the checkpoint before stays.
  void fail_on_rank_1(const std::function<void(std::vector<ShardView>&)>& make_wrong) {
    save(100);
    std::atomic<int> thrown = 0;
    run_as_threads(3, [&](Communicator& ranks) {
      CheckpointWriter writer(checkpoints_, ranks, 0);
      const auto state = sample_state(200);
      auto views = share_of(state, ranks.rank(), 3);
      if (ranks.rank() == 1) make_wrong(views);
      try {
        writer.begin(sample_attributes(200), views, CheckpointWriter::Mode::background);
        writer.finish();
      } catch (const AgreedError& e) {
        ++thrown;
        EXPECT_EQ(e.mine(), ranks.rank() == 1);
        EXPECT_EQ(std::string(e.what()).find("step 200 was not written") != std::string::npos, e.mine()) << e.what();
      }
    });
    EXPECT_EQ(thrown, 3);
    expect_newest(100);
  }
};

// What is saved is the state as it was, whatever becomes of it meanwhile.
TEST_F(CheckpointWriterThreads, CopyWhatTheySave) {
  CheckpointWriter writer(checkpoints_, *self_, 0);
  for (const int64_t step : {1, 2}) {
    auto state = sample_state(static_cast<int>(step));
    bool synced = false;
    writer.begin(sample_attributes(step), views_of(state), CheckpointWriter::Mode::background,
                 [&] { synced = !newest_checkpoint(checkpoints_) || newest_checkpoint(checkpoints_)->step < step; });
    EXPECT_NE(writer.saved_step(), step);
    for (const Named& n : state) std::fill_n(n.tensor.data<float>(), n.tensor.numel(), -1.f);
    writer.finish();
    EXPECT_EQ(writer.saved_step(), step);
    EXPECT_TRUE(synced) << "before DONE";
    expect_newest(step);
  }
}

// As training does it: the ranks add up how far they are after each step, and only that. A save begun while one is
// under way waits for it; what ends the writer ends no save that others believe in.
TEST_F(CheckpointWriterThreads, GoOnAsTheRanksTalk) {
  run_as_threads(3, [&](Communicator& ranks) {
    CheckpointWriter writer(checkpoints_, ranks, 0);
    const auto talk = [&] {
      const auto [busy, failed] = writer.progress();
      const Tensor all = Tensor::of<int32_t>({2}, {busy, failed});
      ranks.all_reduce(all, Reduce::sum);
      writer.proceed({all.data<int32_t>()[0], all.data<int32_t>()[1]});
    };
    for (const int64_t step : {1, 2, 3}) {
      const auto state = sample_state(static_cast<int>(step));
      writer.begin(sample_attributes(step), share_of(state, ranks.rank(), 3), CheckpointWriter::Mode::background);
      if (step != 2)
        while (writer.saved_step() != step) talk();
    }
    const auto state = sample_state(4);
    writer.begin(sample_attributes(4), share_of(state, ranks.rank(), 3), CheckpointWriter::Mode::background);
  });
  expect_newest(3);
  EXPECT_EQ(complete_checkpoints(checkpoints_).size(), 3u);
}

TEST_F(CheckpointWriterThreads, FailTogether) {
  fail_on_rank_1([](auto& views) { views.push_back(views[0]); });  // a part cannot hold the same twice
}

#if !defined(GF_SANITIZED)  // which ends a process that asks for so much
TEST_F(CheckpointWriterThreads, FailTogetherWhereOneHasNoMemoryForACopy) {
  fail_on_rank_1([](auto& views) { views[0].shape = {kEndless}, views[0].begin = 0, views[0].end = kEndless; });
}
#endif

// Whatever call fails, and on whatever rank: all have the error, and none waits for another.
TEST_F(CheckpointWriterThreads, FailTogetherAtEachCall) {
  bool reached = true;
  for (int call = 0; reached; ++call) {
    fs::remove_all(checkpoints_);
    save(100);
    fs::create_directories(checkpoints_ / "step-00000200.partial/in the way");
    std::atomic<int> thrown = 0;
    {
      const FaultyDisk disk(checkpoints_.string(), Fault::io_error, call);
      run_as_threads(3, [&](Communicator& ranks) {
        CheckpointWriter writer(checkpoints_, ranks, 0);
        const auto state = sample_state(200);
        try {
          writer.begin(sample_attributes(200), share_of(state, ranks.rank(), 3), CheckpointWriter::Mode::background);
          writer.finish();
        } catch (const AgreedError&) {
          ++thrown;
        }
      });
      reached = disk.reached();
    }
    EXPECT_EQ(thrown, reached ? 3 : 0) << "call " << call;
    EXPECT_TRUE(fs::exists(checkpoints_ / "step-00000200.partial/in the way") ||
                fs::exists(checkpoints_ / "step-00000200.partial.aside-1/in the way"));
  }
  expect_newest(200);
}

// `ulimit -f`, and an end of the process that runs what libraries do at their end.
TEST_F(CheckpointWriterTest, FileSizeLimitIsAnErrorLikeAnyOther) {
  save(100);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(1);
    try {
      save(200);
    } catch (const Error& e) {
      std::exit(e.status() == Exit::failed && std::string(e.what()).find("4096") != std::string::npos ? 7 : 8);
    }
    _exit(2);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 7);
  expect_newest(100);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-00000100"}));
}

TEST_F(CheckpointWriterTest, ShortWritesAreContinued) {
  bool reached = true;
  for (int call = 0; reached; ++call) {
    const FaultyDisk disk(checkpoints_.string(), Fault::short_write, call);
    save(7);
    reached = disk.reached();
    expect_newest(7);
  }
}

// Whichever write goes wrong without a word, there is no DONE, or the checkpoint is whole all the same.
TEST_F(CheckpointWriterTest, WhatIsNotAsWrittenIsNotDone) {
  save(100);
  bool reached = true;
  int told = 0;
  for (int call = 0; reached; ++call) {
    const FaultyDisk disk(checkpoints_.string(), Fault::wrong_write, call);
    try {
      save(200);
      ASSERT_NO_FATAL_FAILURE(expect_newest(200)) << "call " << call;
    } catch (const Error& e) {
      ++told;
      EXPECT_EQ(e.status(), Exit::failed) << e.what();
      ASSERT_NO_FATAL_FAILURE(expect_newest(100)) << "call " << call << ": " << e.what();
    }
    reached = disk.reached();
    fs::remove_all(checkpoints_ / step_folder_name(200));
  }
  EXPECT_GE(told, 3) << "values, what is around them, and the index";
}

// The process dies before the n-th call that changes the disk, for every n; the next one finds a whole checkpoint and
// goes on. Keeping one, so that removal is interrupted too.
class DyingWriter : public CheckpointWriterTest, public testing::WithParamInterface<CheckpointWriter::Mode> {};

TEST_P(DyingWriter, LosesNothing) {
  save(100, 1);
  int status = -1;
  for (int call = 0; status != 0; ++call) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const FaultyDisk disk(checkpoints_.string(), Fault::death, call);
      save(200, 1, GetParam());
      _exit(0);
    }
    ASSERT_EQ(waitpid(child, &status, 0), child);
    const auto newest = newest_checkpoint(checkpoints_);
    ASSERT_TRUE(newest) << "call " << call;
    ASSERT_NO_FATAL_FAILURE(expect_newest(newest->step)) << "call " << call;
    if (newest->step == 200) {  // as it was before, for the next call
      fs::remove_all(checkpoints_);
      save(100, 1);
    }
  }
  save(200, 1);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-00000200"}));
}

INSTANTIATE_TEST_SUITE_P(Modes, DyingWriter,
                         testing::Values(CheckpointWriter::Mode::at_once, CheckpointWriter::Mode::background));

// A thread that yields to all others hardly moves beside one that does not rest: whoever waits for the save has it
// written at full pace. With one core for both that takes 1.5 s, and 25 s where the yielding thread goes on alone.
TEST_F(CheckpointWriterThreads, ABusyCoreStarvesNoSaveThatIsWaitedFor) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  const Tensor numbers = Tensor::zeros({8 << 20}, DType::f32, kCpu);
  const ShardView view{"model/w", DType::f32, numbers.shape(), 0, numbers.numel(), numbers.raw()};
  const Stopwatch watch;
  {
    const std::jthread busy([](const std::stop_token& stop) {
      while (!stop.stop_requested()) {}
    });
    CheckpointWriter writer(checkpoints_, *self_, 0);
    writer.begin(sample_attributes(1), {&view, 1}, CheckpointWriter::Mode::background);
    writer.finish();
  }
  EXPECT_LT(watch.seconds(), 10);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-00000001"}));
}

}  // namespace
}  // namespace gf
