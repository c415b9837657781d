// SPDX-License-Identifier: Apache-2.0
#include "train/run_training.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>

#include "io/checkpoint/checkpoint_folder.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/files.h"
#include "support/temp_folder.h"
#include "support/tiny_run.h"

namespace gf {
namespace {

// Its run is out/tiny-0.
Config tiny(const TempFolder& folder, int64_t steps) {
  write_byte_tokens(folder / "data", std::string(4000, 'a'));
  Config c;
  c.model.vocab_size = TinyRun::kVocab, c.model.ctx_len = TinyRun::kCtxLen;
  c.model.n_layer = 2, c.model.n_embd = 32, c.model.head_size = 16;
  c.train.data_file = DataList(folder / "data");
  c.train.max_steps = steps, c.train.micro_bsz = 2, c.train.my_exit_tokens = 100000;
  c.train.proj_dir = folder / "out", c.train.proj_name = "tiny";
  resolve(c);
  return c;
}

// A power cut right after DONE finds all that the checkpoint stands for: the lines of its steps too. (What `lock` says
// means nothing without its process.)
TEST(RunTraining, DoneComesWhenAllIsOnDisk) {
  const TempFolder folder;
  const Config c = tiny(folder, 2);  // the save at the end: no step goes on beside it
  const auto run = folder.path() / "out" / "tiny-0";
  FaultyDisk disk(folder / "out");
  int done = 0;
  RankOrigin here(0, 1, "here");
  disk.before_name_change([&](const std::string&, const std::string& to) {
    if (std::filesystem::path(to).filename() != kDoneFile) return;
    ++done;
    EXPECT_EQ(std::ranges::count(read_file(run / "metrics.jsonl"), '\n'), 2);
    EXPECT_THAT(disk.unsynced(), testing::ElementsAre((run / "lock").string()));
  });
  EXPECT_EQ(run_training(c, make_self_communicator(), here, nullptr), Exit::done);
  EXPECT_EQ(done, 1);
}

// The disk that has metrics.jsonl is full, the one of the checkpoints is not.
TEST(RunTraining, MetricsThatCannotBeWrittenLoseNoStep) {
  const TempFolder folder;
  const Config c = tiny(folder, 50);
  const auto run = folder.path() / "out" / "tiny-0";
  constexpr int kCallsBefore = 2, kLines = 3;  // it is opened and shortened, then written
  const FaultyDisk full(run / "metrics.jsonl", Fault::no_space, kCallsBefore + kLines);
  RankOrigin here(0, 1, "here");
  expect_error(Exit::failed, {"metrics.jsonl", "No space left"},
               [&] { run_training(c, make_self_communicator(), here, nullptr); });
  const std::string text = read_file(run / "metrics.jsonl");
  EXPECT_EQ(std::ranges::count(text, '\n'), kLines);
  EXPECT_EQ(newest_checkpoint(run / "checkpoints")->step, kLines + 1) << "with the step that could not be told of";
}

// The pieces of one rank, too.
TEST(RunTraining, MorePiecesThanBlocksAreRefused) {
  const TempFolder folder;
  Config c = tiny(folder, 1);
  c.parallel.schedule = "interleaved", c.parallel.pieces = 3;
  RankOrigin here(0, 1, "here");
  expect_refused({"parallel.pipeline 1 times parallel.pieces 3 is 3 stages, and model.n_layer 2",
                  "[try: --parallel.pieces 2 at most]"},
                 [&] { run_training(c, make_self_communicator(), here, nullptr); });
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

// Times of one kind of machine tell nothing of a run on another.
TEST(RunTraining, AHardwareFileOfAnotherMachineIsRefused) {
  const TempFolder folder;
  Config c = tiny(folder, 1);
  c.parallel.hardware = GF_SOURCE_DIR "/configs/hardware/h100.yaml";
  RankOrigin here(0, 1, "here");
  expect_refused({"parallel.hardware ", "h100.yaml", "accelerator gpu and rank.precision bf16",
                  "train.accelerator is cpu and train.precision 32", "gf plan --measure"},
                 [&] { run_training(c, make_self_communicator(), here, nullptr); });
}

// A run takes signals as its own by then: none would end the wait for somebody who writes.
TEST(RunTraining, AHardwareFileIsNoPipe) {
  const TempFolder folder;
  Config c = tiny(folder, 1);
  c.parallel.hardware = folder / "pipe";
  ASSERT_EQ(mkfifo(c.parallel.hardware.c_str(), 0600), 0);
  RankOrigin here(0, 1, "here");
  expect_refused({c.parallel.hardware, "is not a regular file", "configs/hardware/"},
                 [&] { run_training(c, make_self_communicator(), here, nullptr); });
}

}  // namespace
}  // namespace gf
