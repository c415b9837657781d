// SPDX-License-Identifier: Apache-2.0
// What other programs see in checkpoint.h5: whole tensors, from any working folder, also after a move. Each test is
// there where its program was found when the build was configured.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "io/checkpoint/checkpoint_samples.h"
#include "io/checkpoint/safetensors.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

struct Output {
  int status;
  std::string text;
};

[[maybe_unused]] Output run(const std::string& command) {
  FILE* const pipe = popen(("cd / && " + command + " 2>&1").c_str(), "r");
  GF_CHECK(pipe, "cannot run ", command);
  std::string text;
  std::array<char, 4096> piece;
  while (const size_t n = fread(piece.data(), 1, piece.size(), pipe)) text.append(piece.data(), n);
  return {pclose(pipe), text};
}

// Written by so many ranks, and moved since.
[[maybe_unused]] fs::path moved_checkpoint(const TempFolder& folder, int ranks) {
  const fs::path made = write_as_ranks(folder.path(), sample_state(), ranks),
                 moved = folder / ("moved" + std::to_string(ranks));
  fs::rename(made, moved);
  return moved / kIndexFile;
}

#ifdef GF_H5DUMP
TEST(CheckpointInterop, H5dumpShowsWholeTensors) {
  const TempFolder folder;
  for (const int ranks : {1, 4}) {
    const Output out =
        run(cat(GF_H5DUMP " -y -w 200 -d /model/blocks.0.att.time_faaaa ", moved_checkpoint(folder, ranks).string()));
    EXPECT_EQ(out.status, 0) << out.text;
    for (const char* line : {"SIMPLE { ( 2, 3, 4 ) / ( 2, 3, 4 ) }", "1000, 1001, 1002, 1003,",
                             "1008, 1009, 1010, 1011,", "1012, 1013, 1014, 1015,", "1020, 1021, 1022, 1023"})
      EXPECT_NE(out.text.find(line), std::string::npos) << line << " is not in: " << out.text;
  }
}
#endif

#ifdef GF_PYTHON_WITH_H5PY
TEST(CheckpointInterop, H5pySeesWholeTensors) {
  const TempFolder folder;
  for (const int ranks : {1, 3, 4, 13}) {
    const Output out = run(std::string(GF_PYTHON_WITH_H5PY) + " " + GF_SOURCE_DIR +
                           "/tests/io/checkpoint/checkpoint_h5py.py " + moved_checkpoint(folder, ranks).string());
    EXPECT_EQ(out.status, 0) << ranks << " ranks: " << out.text;
  }
}
#endif

}  // namespace
}  // namespace gf
