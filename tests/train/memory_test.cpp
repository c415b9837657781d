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

Config run_of(int64_t sequences) {
  Config c;
  c.model = model(256);
  c.model.ctx_len = 512;
  c.train.micro_bsz = sequences;
  resolve(c);
  return c;
}

TEST(Memory, ARunThatTakesMoreThanThereIsIsToldWhatFits) {
  const Config c = run_of(16);
  const MemoryForecast f = forecast_memory(c, 1);
  EXPECT_NO_THROW(check_memory(c, f, f.more()));
  expect_refused({"the run needs", "there are", "--train.grad_cp 1, which needs"},
                 [&] { check_memory(c, f, f.more() - 1); });
  // A quarter of the activations, with all else.
  expect_refused({"--train.grad_cp 1 --train.micro_bsz ", " --train.accumulate_grad_batches ", ", which needs "},
                 [&] { check_memory(c, f, f.more() - f.activations + f.activations / 4); });
  expect_refused({"a smaller model"}, [&] { check_memory(c, f, f.parameters); });
}

TEST(Memory, ValidationCounts) {
  Config c = run_of(2);
  EXPECT_EQ(forecast_memory(c, 1).validation, 0u);
  c.train.validation_data_file = "some";
  EXPECT_GT(forecast_memory(c, 1).validation, 2u * 512 * 256 * 4);
}

TEST(Memory, OrdinaryWindowsAreNot) {
  EXPECT_NO_THROW(check_evaluation_memory(model(32), 2, 64, ""));
}

}  // namespace
}  // namespace gf
