// SPDX-License-Identifier: Apache-2.0
// Saves of one rank in a folder of the test's own.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_samples.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "support/temp_folder.h"

namespace gf {

class CheckpointSaves : public testing::Test {
 protected:
  TempFolder folder_;
  std::unique_ptr<Communicator> self_ = make_self_communicator();
  std::filesystem::path checkpoints_ = folder_ / "checkpoints";

  // -> its notes.
  std::vector<std::string> save(int64_t step, int keep = 0,
                                CheckpointWriter::Mode mode = CheckpointWriter::Mode::at_once) {
    const auto state = sample_state(static_cast<int>(step));
    CheckpointWriter writer(checkpoints_, *self_, keep);
    writer.begin(sample_attributes(step), views_of(state), mode);
    writer.finish();
    return writer.take_notes();
  }
  // The newest checkpoint is that of `step`, and whole.
  void expect_newest(int64_t step) const {
    const auto newest = newest_checkpoint(checkpoints_);
    ASSERT_TRUE(newest);
    ASSERT_EQ(newest->step, step);
    const CheckpointReader reader(checkpoints_);
    reader.verify();
    expect_holds(reader, sample_state(static_cast<int>(step)));
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(checkpoints_))
      found.push_back(entry.path().filename());
    std::ranges::sort(found);
    return found;
  }
};

}  // namespace gf
