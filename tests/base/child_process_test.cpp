// SPDX-License-Identifier: Apache-2.0
#include "base/child_process.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

TEST(ChildProcess, AppendsToALogThatIsNoLink) {
  const TempFolder folder;
  const StopSignal stop;
  write_file(folder / "log", "before\n");
  EXPECT_EQ(run_child("/bin/echo", {"said"}, folder / "log", stop).status, 0);
  EXPECT_EQ(read_file(folder / "log"), "before\nsaid\n");
  std::filesystem::create_symlink("log", folder / "link");
  expect_error(Exit::failed, {"cannot write", folder / "link", "symbolic links"},
               [&] { run_child("/bin/echo", {"more"}, folder / "link", stop); });
  EXPECT_EQ(read_file(folder / "log"), "before\nsaid\n");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_error(Exit::failed, {"cannot write", folder / "pipe", "not a regular file"},
               [&] { run_child("/bin/echo", {"more"}, folder / "pipe", stop); });
}

}  // namespace
}  // namespace gf
