// SPDX-License-Identifier: Apache-2.0
// Tests of ops compare with a GPU where GF_TEST_GPU asks for it, which CMake sets for those labelled gpu. Without it
// these would pass and show nothing of a GPU.
#include <gtest/gtest.h>

#include <cstdlib>

namespace gf {
namespace {

#ifdef GF_WITH_CUDA
TEST(ComparisonsOnGpu, AreAskedFor) {
  EXPECT_NE(std::getenv("GF_TEST_GPU"), nullptr);
}
#endif

}  // namespace
}  // namespace gf
