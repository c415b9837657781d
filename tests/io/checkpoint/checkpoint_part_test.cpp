// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_part.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "parallel/hang_watch.h"
#include "support/faulty_disk.h"
#include "support/temp_folder.h"
#include "tensor/tensor.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

struct Synced {
  int64_t begin, bytes;  // none: the whole file
  int signs_before;      // of life
};

// What a part is synced by, where each of it ends with this error, with the signs of life that the watch was given.
std::vector<Synced> syncs_of(const fs::path& folder, const ShardView& view, int error_of_some) {
  std::vector<Synced> synced;
  std::atomic<int> signs = 0;
  // The watch asks for the time at each sign; its own thread does at each look.
  HangWatch watch(
      1e6, [](const std::string& what) { ADD_FAILURE() << what; },
      [&, writes = std::this_thread::get_id()] {
        signs += std::this_thread::get_id() == writes;
        return seconds_now();
      });
  FaultyDisk disk(folder.string());
  disk.before_sync([&](int64_t begin, int64_t bytes) {
    synced.push_back({begin, bytes, signs});
    return bytes > 0 ? error_of_some : 0;
  });
  PartWriter(folder / "part", {view}, &watch).write();
  EXPECT_TRUE(disk.unsynced((folder / "part").string()).empty());
  return synced;
}

// A disk that is slow, and writes, is not taken for one that hangs.
TEST(CheckpointPart, GivesASignOfLifeForEachPieceThatIsWrittenBack) {
  constexpr int64_t kSoonWritten = 16 << 20;  // bytes: a second on the slowest of disks
  const TempFolder folder;
  const Tensor numbers = Tensor::zeros({10 << 20}, DType::f32, kCpu);
  const ShardView view{"model/w", DType::f32, numbers.shape(), 0, numbers.numel(), numbers.raw()};
  for (const int error : {0, ENOSYS}) {  // the latter: a file system that cannot be asked for pieces
    const std::vector<Synced> synced = syncs_of(folder.path(), view, error);
    ASSERT_GE(synced.size(), 4u);
    int64_t at = 0;
    for (size_t i = 0; i + 1 < synced.size(); ++i) {
      EXPECT_EQ(synced[i].begin, at);
      EXPECT_GT(synced[i].bytes, 0);
      EXPECT_LE(synced[i].bytes, kSoonWritten);
      EXPECT_GT(synced[i + 1].signs_before, synced[i].signs_before);
      at += synced[i].bytes;
    }
    EXPECT_EQ(at, static_cast<int64_t>(fs::file_size(folder / "part")));
    EXPECT_EQ(synced.back().bytes, 0) << "and all of it at the end";
  }
}

}  // namespace
}  // namespace gf
