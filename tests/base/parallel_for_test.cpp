// SPDX-License-Identifier: Apache-2.0
#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

namespace gf {
namespace {

class OnCores : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { omp_set_num_threads(GetParam()); }
  void TearDown() override { omp_set_num_threads(before_); }
  const int before_ = omp_get_max_threads();
};

TEST_P(OnCores, EachIndexComesOnce) {
  for (const int64_t count : {0, 1, 2, 3, 7, 1000}) {
    std::vector<std::atomic<int>> calls(count);
    parallel_for(count, [&](int64_t i) { ++calls[i]; });
    for (const auto& n : calls) EXPECT_EQ(n, 1);
  }
}

TEST_P(OnCores, ALoopInALoopRunsOnItsThread) {
  std::vector<int64_t> sums(8);
  parallel_for(8, [&](int64_t i) { parallel_for(100, [&](int64_t j) { sums[i] += j; }); });
  EXPECT_EQ(sums, std::vector<int64_t>(8, 4950));
}

TEST_P(OnCores, AnExceptionComesOut) {
  std::vector<std::atomic<int>> calls(100);
  const auto throwing = [&](int64_t i) {
    ++calls[i];
    if (i == 3) throw std::runtime_error("three");
  };
  EXPECT_THROW(parallel_for(100, throwing), std::runtime_error);
  EXPECT_EQ(calls[3], 1);
  const int most = GetParam() > 1 ? 1 : 0;  // alone, it ends where the exception came
  for (size_t i = 4; i < calls.size(); ++i) EXPECT_EQ(calls[i], most);
}

// One task that takes as long as all others together: those of its run are done by whoever is free.
TEST_P(OnCores, WhoIsDoneHelpsTheOthers) {
  std::atomic<int> done = 0;
  parallel_for(64, [&](int64_t i) {
    if (i == 0 && GetParam() > 1)
      while (done < 63) std::this_thread::yield();
    ++done;
  });
  EXPECT_EQ(done, 64);
}

INSTANTIATE_TEST_SUITE_P(Some, OnCores, testing::Values(1, 2, 3, 8));

}  // namespace
}  // namespace gf
