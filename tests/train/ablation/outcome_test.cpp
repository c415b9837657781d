// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/outcome.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

TEST(NotePeak, KeepsTheLargestAndFollowsNoLink) {
  const TempFolder folder;
  note_peak(folder.path(), 5000);
  note_peak(folder.path(), 4000);
  EXPECT_EQ(read_file(folder / "peak_bytes.txt"), "5000\n");
  std::filesystem::rename(folder / "peak_bytes.txt", folder / "other");
  std::filesystem::create_symlink("other", folder / "peak_bytes.txt");
  expect_refused({folder / "peak_bytes.txt", "is a symbolic link"}, [&] { note_peak(folder.path(), 6000); });
  EXPECT_EQ(read_file(folder / "other"), "5000\n");
}

}  // namespace
}  // namespace gf
