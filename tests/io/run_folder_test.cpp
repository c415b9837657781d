// SPDX-License-Identifier: Apache-2.0
#include "io/run_folder.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>

#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

TEST(RunFolder, LiesWhereTheContractSays) {
  const TempFolder folder;
  const RunFolder run(RunPaths(folder / "L6-D128-gold-0"));
  const fs::path root = folder / "L6-D128-gold-0";
  EXPECT_EQ(run.root(), root);
  EXPECT_EQ(run.config(), root / "config.yaml");
  EXPECT_EQ(run.metrics(), root / "metrics.jsonl");
  EXPECT_TRUE(fs::is_directory(root / "checkpoints"));
  EXPECT_TRUE(run.is_exclusive());
  EXPECT_TRUE(fs::is_empty(run.checkpoints()));
}

TEST(RunFolder, SecondRunIsRefusedAndToldWhoHasIt) {
  const TempFolder folder;
  const RunPaths paths(folder / "run-0");
  {
    const RunFolder first(paths);
    expect_error(Exit::bad_input, {paths.root().string(), "in use by process " + std::to_string(getpid())},
                 [&] { RunFolder{paths}; });
  }
  const RunFolder next(paths);
  EXPECT_TRUE(next.is_exclusive());
}

TEST(RunFolder, KilledRunLeavesNoLock) {
  const TempFolder folder;
  const RunPaths paths(folder / "run-0");
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const RunFolder held(paths);
    if (write(ready[1], "!", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]), close(ready[1]);
  expect_error(Exit::bad_input, {"in use by process " + std::to_string(child)}, [&] { RunFolder{paths}; });
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  const RunFolder next(paths);
  EXPECT_TRUE(next.is_exclusive());
}

TEST(RunFolder, AHolderOfThisMachineIsKnownWhileItHoldsIt) {
  const TempFolder folder;
  const RunPaths paths(folder / "run-0");
  EXPECT_EQ(holder_on_this_machine(paths), "");
  EXPECT_FALSE(fs::exists(paths.root())) << "it only looks";
  std::string name;
  {
    const RunFolder held(paths);
    name = holder_on_this_machine(paths);
    EXPECT_TRUE(name.starts_with(cat("process ", getpid(), " on "))) << name;
    EXPECT_EQ(name, read_file(paths.lock()));
    write_file(paths.lock(), name + "-2");
    EXPECT_EQ(holder_on_this_machine(paths), "") << "another machine's";
  }
  write_file(paths.lock(), name);  // as a killed run leaves it
  EXPECT_EQ(holder_on_this_machine(paths), "");
  EXPECT_EQ(read_file(paths.lock()), name);
  EXPECT_TRUE(RunFolder(paths).is_exclusive()) << "who has looked holds nothing";
}

TEST(RunFolder, FolderThatCannotBeWrittenIsRefused) {
  const TempFolder folder;
  std::ofstream(folder / "file") << "in the way";
  expect_error(Exit::bad_input, {"file/run-0", "cannot be written", "Not a directory"},
               [&] { RunFolder(RunPaths(folder / "file/run-0")); });
  expect_error(Exit::bad_input, {"/proc/run-0", "cannot be written"}, [&] { RunFolder(RunPaths("/proc/run-0")); });
}

// A run folder that was unpacked or handed over does not decide what else is overwritten.
TEST(RunFolder, LinksInItAreNotWrittenThrough) {
  const TempFolder folder;
  write_file(folder / "victim", "precious");
  for (const char* name : {"lock", "metrics.jsonl", "config.yaml"})
    for (const char* to : {"../../victim", "../../nothing"}) {
      const RunPaths paths(folder / cat("out/run-", name));
      fs::create_directories(paths.root());
      fs::create_symlink(to, paths.root() / name);
      expect_error(Exit::bad_input, {paths.root() / name, "is a symbolic link", "remove it"},
                   [&] { RunFolder{paths}; });
      fs::remove(paths.root() / name);
      EXPECT_TRUE(fs::is_empty(paths.root())) << "and nothing is changed";
    }
  EXPECT_EQ(read_file(folder / "victim"), "precious");
  EXPECT_FALSE(fs::exists(folder / "nothing"));
}

// As a user sets it up: the run on another disk. By either name it is one run.
TEST(RunFolder, MayBeALinkItself) {
  const TempFolder folder;
  for (const char* name : {"disk", "disk/run-0"}) fs::create_directory(folder / name);
  fs::create_symlink("disk", folder / "out");
  fs::create_symlink("run-0", folder / "disk/run-1");
  const RunFolder run(RunPaths(folder / "out/run-1"));
  EXPECT_TRUE(run.is_exclusive());
  EXPECT_TRUE(fs::exists(folder / "disk/run-0/lock"));
  expect_refused({"disk/run-0 is in use by process"}, [&] { RunFolder(RunPaths(folder / "disk/run-0")); });
}

// The lock of one run says nothing of another's checkpoints.
TEST(RunFolder, CheckpointsElsewhereAreRefused) {
  const TempFolder folder;
  const RunFolder other(RunPaths(folder / "run-0"));
  for (const char* to : {"../run-0/checkpoints", "../nothing", "steps"}) {
    const RunPaths paths(folder / "run-1");
    fs::create_directories(paths.root() / "steps");
    fs::create_symlink(to, paths.checkpoints());
    expect_refused({paths.checkpoints(), cat("is a symbolic link to ", to), paths.root().string() + " on that disk"},
                   [&] { RunFolder{paths}; });
    EXPECT_FALSE(fs::exists(paths.lock())) << "and nothing is changed";
    fs::remove(paths.checkpoints());
    EXPECT_TRUE(RunFolder(paths).is_exclusive()) << "it was the link";
    fs::remove_all(paths.root());
  }
  EXPECT_TRUE(fs::is_empty(other.checkpoints()));
  EXPECT_FALSE(fs::exists(folder / "nothing"));
}

}  // namespace
}  // namespace gf
