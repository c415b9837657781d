// SPDX-License-Identifier: Apache-2.0
#include "train/memory.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace gf {
namespace {

ModelConfig model(int64_t n_embd) {
  ModelConfig c;
  c.vocab_size = 257, c.n_layer = 2, c.n_embd = n_embd, c.head_size = 16;
  c.resolve();
  return c;
}

// 2^30 tokens of 8192 channels: no machine has 35 TB.
TEST(Memory, WindowsThatTakeMoreThanThereIsAreRefused) {
  expect_refused({"64 windows of 16777216 tokens", "memory", "fewer of them"},
                 [] { check_evaluation_memory(model(8192), 64, kMaxContext, "fewer of them"); });
}

TEST(Memory, OrdinaryWindowsAreNot) {
  EXPECT_NO_THROW(check_evaluation_memory(model(32), 2, 64, ""));
}

}  // namespace
}  // namespace gf
