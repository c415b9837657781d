// SPDX-License-Identifier: Apache-2.0
// What saves remove, and what of others they leave.
#include "io/checkpoint/checkpoint_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/checkpoint/checkpoint_saves.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/files.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class CheckpointFolder : public CheckpointSaves {
 protected:
  // The note says these; nothing else was noted.
  static void expect_note(const std::vector<std::string>& notes, const std::vector<std::string>& pieces) {
    ASSERT_EQ(notes.size(), 1u) << testing::PrintToString(notes);
    for (const std::string& piece : pieces) EXPECT_THAT(notes[0], testing::HasSubstr(piece));
  }
};

TEST_F(CheckpointFolder, RemovesRemnants) {
  save(1);
  fs::create_directories(checkpoints_ / "step-00000002");
  File::create(checkpoints_ / "step-00000002" / kIndexFile).close();
  fs::create_directories(checkpoints_ / "step-00000003.partial");
  File::create(checkpoints_ / "notes.txt").close();
  fs::create_directories(checkpoints_ / "step-00000009" / "my own");
  fs::create_directories(checkpoints_ / "step-5");
  save(4);
  EXPECT_EQ(names(),
            (std::vector<std::string>{"notes.txt", "step-00000001", "step-00000004", "step-00000009", "step-5"}));
}

// A server that is away for a moment must cost nobody a checkpoint, nor make a run begin anew.
TEST_F(CheckpointFolder, WhatCannotBeLookedAtIsNotGone) {
  save(1), save(2);
  {
    const FaultyDisk disk(checkpoints_.string(), Fault::look_error);
    remove_remnants(checkpoints_);
    EXPECT_TRUE(disk.reached());
    expect_error(Exit::failed, {"cannot look at", "step-00000001/DONE", "Stale file handle"},
                 [&] { newest_checkpoint(checkpoints_); });
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"step-00000001", "step-00000002"}));
  expect_newest(2);
}

TEST_F(CheckpointFolder, PruningSparesWhatHoldsMore) {
  save(1), save(2), save(3);
  write_file(checkpoints_ / "step-00000001/my-export.safetensors", "mine");
  fs::create_directory(folder_ / "elsewhere");
  fs::rename(checkpoints_ / "step-00000002", folder_ / "elsewhere/kept");
  fs::create_symlink("../elsewhere/kept", checkpoints_ / "step-00000002");
  const auto state = sample_state(4);
  CheckpointWriter writer(checkpoints_, *self_, 1);
  writer.write(sample_attributes(4), views_of(state));
  const auto notes = writer.take_notes();
  ASSERT_EQ(notes.size(), 2u) << testing::PrintToString(notes);
  EXPECT_THAT(notes[0], testing::HasSubstr("step-00000001 holds my-export.safetensors, which is of no checkpoint"));
  EXPECT_THAT(notes[1], testing::HasSubstr("step-00000002 is a symbolic link"));
  EXPECT_EQ(names(), (std::vector<std::string>{"step-00000001", "step-00000002", "step-00000004"}));
  for (const int64_t step : {1, 2}) CheckpointReader(checkpoints_ / step_folder_name(step)).verify();
  writer.write(sample_attributes(5), views_of(state));
  EXPECT_THAT(writer.take_notes(), testing::ElementsAre()) << "each is told once";
}

// A folder with the name of a step to come may be a user's own; a run folder that was handed over may hold anything.
TEST_F(CheckpointFolder, WhatIsInTheWayIsPutAside) {
  fs::create_directories(checkpoints_ / "step-00000006");
  write_file(checkpoints_ / "step-00000006/thesis.txt", "mine");
  expect_note(save(6), {"step-00000006 holds thesis.txt", "step-00000006.aside-1 now"});
  expect_newest(6);
  EXPECT_EQ(read_file(checkpoints_ / "step-00000006.aside-1/thesis.txt"), "mine");

  write_file(checkpoints_ / "step-00000006/thesis.txt", "more");
  expect_note(save(6), {"step-00000006 holds thesis.txt", "step-00000006.aside-2 now"});
  expect_newest(6);
  EXPECT_EQ(read_file(checkpoints_ / "step-00000006.aside-2/thesis.txt"), "more");
  EXPECT_TRUE(fs::exists(checkpoints_ / "step-00000006.aside-2" / kDoneFile));

  write_file(checkpoints_ / "step-00000007", "a file");
  expect_note(save(7), {"step-00000007 is no folder", "step-00000007.aside-1 now"});
  expect_newest(7);
  EXPECT_EQ(read_file(checkpoints_ / "step-00000007.aside-1"), "a file");
}

TEST_F(CheckpointFolder, NothingIsWrittenOrRemovedThroughLinks) {
  fs::create_directories(checkpoints_);
  fs::create_directory(folder_ / "elsewhere");
  for (const char* name : {"DONE", "keep.txt", "part-00000-of-00001.h5"})
    write_file(folder_ / "elsewhere" / name, "precious");
  const auto link = [&](const std::string& to, const std::string& name) {
    fs::create_directories((checkpoints_ / name).parent_path());
    fs::create_symlink(to, checkpoints_ / name);
  };
  link("../elsewhere", "step-00000001");
  expect_note(save(1), {"step-00000001 is a symbolic link", "step-00000001.aside-1 now"});
  link("../elsewhere", "step-00000002.partial");
  expect_note(save(2), {"step-00000002.partial is a symbolic link"});
  link("../../elsewhere/keep.txt", "step-00000003.partial/part-00000-of-00001.h5");
  expect_note(save(3), {"step-00000003.partial holds part-00000-of-00001.h5, which is no regular file"});
  link("../../elsewhere/keep.txt", "step-00000004.partial/part-00000-of-00001.h5");
  write_file(checkpoints_ / "step-00000004.partial/README", "");
  expect_note(save(4), {"step-00000004.partial holds "});
  link("../../elsewhere/keep.txt", "step-00000005/DONE");
  expect_note(save(5), {"step-00000005 holds DONE, which is no regular file"});
  link("nothing", "step-00000006.partial");
  expect_note(save(6), {"step-00000006.partial is a symbolic link"});
  for (const int64_t step : {1, 2, 3, 4, 5, 6}) {
    EXPECT_TRUE(fs::is_directory(fs::symlink_status(checkpoints_ / step_folder_name(step))));
    CheckpointReader(checkpoints_ / step_folder_name(step)).verify();
  }
  expect_newest(6);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "elsewhere"), {}), 3);
  for (const char* name : {"DONE", "keep.txt", "part-00000-of-00001.h5"})
    EXPECT_EQ(read_file(folder_ / "elsewhere" / name), "precious");
}

}  // namespace
}  // namespace gf
