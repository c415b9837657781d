// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "optim/sharded_optimizer.h"
#include "parallel/pipeline.h"
#include "support/small_model.h"

#ifdef GF_CUDA_EMULATED
#include "cuda_runtime.h"

namespace gf {
namespace {

constexpr Device kGpu{Device::Kind::cuda, 0};

// A GPU that is waited for has nothing to do until it is told more.
TEST(StepOnGpu, WaitsForTheGpuOnce) {
  ModelConfig c = small_config("x060c2", "x060", "gold");
  LayerStack layers(c);
  layers.parameters().allocate(kGpu, DType::f32, ParameterStore::Gradients::zeroed);
  fill_hashed(layers.parameters());
  const auto self = make_self_communicator();
  ShardedOptimizer optimizer(layers, *self, {}, {});
  optimizer.values_were_set();
  Stage stage(layers, {.device = kGpu, .graphs = true});
  Pipeline pipeline(stage, *self, find_schedule("one_f_one_b"));
  std::vector<Batch> batches;
  for (int m = 0; m < 3; ++m) batches.push_back(hashed_batch(2, c.ctx_len, c.vocab_size, 2 * m));
  for (int step = 0; step < 4; ++step) {
    emulation::take_waits();
    pipeline.run_passes(batches, optimizer);
    optimizer.finish_gradients();
    EXPECT_EQ(emulation::take_waits(), 0) << "step " << step;
    const double loss = pipeline.take_loss();
    EXPECT_TRUE(optimizer.step(1e-3, 0.1).applied);
    EXPECT_EQ(emulation::take_waits(), 1) << "step " << step << ", loss " << loss;
  }
}

}  // namespace
}  // namespace gf
#endif
