// SPDX-License-Identifier: Apache-2.0
// What a save makes of a disk's fault that passes, of reads that fail, and of a thread that cannot be had.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "io/checkpoint/checkpoint_saves.h"
#include "parallel/communicator_threads.h"
#include "support/faulty_disk.h"

#if !defined(GF_SANITIZED)  // which wants this call for itself
namespace {
thread_local bool no_threads_for_me = false;
}

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                              void* argument) noexcept {
  using Create = int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static auto* const real = reinterpret_cast<Create*>(dlsym(RTLD_NEXT, "pthread_create"));
  return no_threads_for_me ? EAGAIN : real(thread, attributes, run, argument);
}
#endif

namespace gf {
namespace {

namespace fs = std::filesystem;

class CheckpointTrouble : public CheckpointSaves, public testing::WithParamInterface<CheckpointWriter::Mode> {
 protected:
  struct Try {
    int call;
    bool saved;
    std::string error;
  };

  // A save that removes an older checkpoint, with a fault at the n-th call, for every n there is. In any case the
  // newest checkpoint is whole and the right one, and the next save leaves no trace of what was.
  int try_all(Fault fault, const std::function<void(const Try&)>& check) {
    int call = 0;
    for (bool reached = true; reached; ++call) {
      SCOPED_TRACE(cat("call ", call));
      fs::remove_all(checkpoints_);
      save(100);
      save(200);
      Try t{call, true, ""};
      {
        const FaultyDisk disk(checkpoints_.string(), fault, call);
        try {
          save(300, 1, GetParam());
        } catch (const Error& e) {
          t.saved = false, t.error = e.what();
          EXPECT_EQ(static_cast<int>(e.status()), 1) << t.error;
        }
        reached = disk.reached();
      }
      const bool is_done = fs::exists(checkpoints_ / step_folder_name(300) / kDoneFile);
      EXPECT_TRUE(is_done || !t.saved);
      expect_newest(is_done ? 300 : 200);
      if (reached) check(t);
      save(400, 1);
      EXPECT_EQ(names(), (std::vector<std::string>{"step-00000400"}));
    }
    return call - 1;
  }
};

TEST_P(CheckpointTrouble, AnErrorThatPassesIsToldOrPassedOverWithoutLoss) {
  int passed_over = 0;
  const int calls = try_all(Fault::passing_error, [&](const Try& t) {
    passed_over += t.saved;
    EXPECT_TRUE(t.saved || t.error.find("Input/output error") != std::string::npos) << t.error;
  });
  EXPECT_GT(calls, 20);
  EXPECT_LT(passed_over, calls / 2) << "only what removes the older one";
}

TEST_P(CheckpointTrouble, ReadsThatFailAreToldOf) {
  const int calls = try_all(Fault::read_error, [&](const Try& t) {
    EXPECT_FALSE(t.saved);
    EXPECT_NE(t.error.find("step 300 was not written"), std::string::npos) << t.error;
  });
  EXPECT_GT(calls, 0);
}

TEST_F(CheckpointSaves, AReadThatFailedIsNotComplainedOfAgainAtTheEnd) {
  const auto fail_and_end = [&] {
    const FaultyDisk disk(checkpoints_.string(), Fault::read_error);
    try {
      save(1);
    } catch (const Error&) {
      std::exit(7);
    }
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // in a process that begins anew
  EXPECT_EXIT(fail_and_end(), testing::ExitedWithCode(7), "^$");
}

TEST_P(CheckpointTrouble, ShortReadsAreGoneOnWith) {
  const int calls = try_all(Fault::short_read, [&](const Try& t) { EXPECT_TRUE(t.saved) << t.error; });
  EXPECT_GT(calls, 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, CheckpointTrouble,
                         testing::Values(CheckpointWriter::Mode::at_once, CheckpointWriter::Mode::background));

#if !defined(GF_SANITIZED)
// Where one rank gets no thread it writes at once, at the pace of all, and the others hear of nothing.
TEST_F(CheckpointSaves, ARankWithoutThreadsWritesByItself) {
  run_as_threads(3, [&](Communicator& ranks) {
    no_threads_for_me = ranks.rank() == 1;
    CheckpointWriter writer(checkpoints_, ranks, 0);
    const auto state = sample_state(7);
    writer.begin(sample_attributes(7), share_of(state, ranks.rank(), 3), CheckpointWriter::Mode::background);
    if (no_threads_for_me) {
      EXPECT_EQ(writer.progress().busy, 0) << "it is written";
    }
    EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
    writer.finish();
    EXPECT_EQ(writer.saved_step(), 7);
    no_threads_for_me = false;
  });
  expect_newest(7);
}
#endif

}  // namespace
}  // namespace gf
