// SPDX-License-Identifier: Apache-2.0
#include "tensor/side_stream.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#ifdef GF_CUDA_EMULATED
#include "cuda_runtime.h"

namespace gf {
namespace {

// As one that writes a checkpoint, which has no stream of its own: it takes no memory of another rank's GPU.
TEST(StreamEventOnGpus, AThreadThatWaitsUsesTheGpuOfTheEvent) {
  cuda::use_gpu(2);
  const SideStream stream({Device::Kind::cuda, 2});
  const StreamEvent event = stream.mark();
  emulation::take_touched();
  std::jthread([&] { EXPECT_TRUE(event.passed()); }).join();
  std::jthread([&] { event.wait(); }).join();
  EXPECT_EQ(emulation::take_touched(), std::set{2});
}

}  // namespace
}  // namespace gf
#endif
