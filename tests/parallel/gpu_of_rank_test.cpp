// SPDX-License-Identifier: Apache-2.0
#include "parallel/gpu_of_rank.h"

#include <gtest/gtest.h>

#include <vector>

#include "parallel/communicator_threads.h"

#ifdef GF_CUDA_EMULATED
#include "cuda_runtime.h"

namespace gf {
namespace {

// Of each rank, all on this node; `shown`: the GPUs that it can see, none: all.
std::vector<GpuShare> shares_of(const std::vector<std::vector<int>>& shown) {
  std::vector<GpuShare> shares(shown.size());
  run_as_threads(static_cast<int>(shown.size()), [&](Communicator& world) {
    const auto r = static_cast<size_t>(world.rank());
    emulation::show_gpus(shown[r]);
    shares[r] = share_of_gpu(world);
  });
  return shares;
}

// As of srun --gpus-per-task=1.
TEST(GpuOfRankOnGpus, RanksThatAreShownOneEachAreAlone) {
  for (const GpuShare& s : shares_of({{0}, {1}, {2}, {3}})) {
    EXPECT_EQ(s.device.index, 0);
    EXPECT_EQ(s.ranks, 1);
    EXPECT_TRUE(s.alone);
  }
}

// As of mpirun.
TEST(GpuOfRankOnGpus, RanksThatAreShownAllTakeOneEach) {
  const auto shares = shares_of({{}, {}, {}, {}});
  for (int r = 0; r < 4; ++r) {
    EXPECT_EQ(shares[r].device.index, r);
    EXPECT_EQ(shares[r].ranks, 1);
    EXPECT_TRUE(shares[r].alone);
  }
}

TEST(GpuOfRankOnGpus, RanksThatShareKnowIt) {
  const auto too_many = shares_of({{}, {}, {}, {}, {}});
  for (int r = 0; r < 5; ++r) {
    EXPECT_EQ(too_many[r].device.index, r % 4);
    EXPECT_EQ(too_many[r].ranks, r % 4 == 0 ? 2 : 1);
    EXPECT_FALSE(too_many[r].alone);
  }
  const auto same = shares_of({{2}, {3}, {2}});
  EXPECT_EQ(same[0].ranks, 2);
  EXPECT_EQ(same[1].ranks, 1);
  EXPECT_FALSE(same[1].alone);
  EXPECT_EQ(same[0].memory, same[1].memory / 2);
}

}  // namespace
}  // namespace gf
#endif
