// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <gtest/gtest.h>

#include <mutex>

#include "parallel/communicator_threads.h"
#include "support/binidx_files.h"
#include "support/small_model.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

struct Share {
  Evaluation result;
  int64_t most = 0, windows = 0;  // that this rank looked at, at once and in all
};

Share share_of(Communicator& world, const WindowReader& reader, int64_t windows, int64_t batch_size) {
  const Mesh mesh = make_mesh(world.split(0, world.rank()), 1, world.size());
  LayerStack layers(small_config("x060"));
  layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  fill_hashed(layers.parameters());
  Stage stage(layers, {});
  Pipeline pipeline(stage, *mesh.pipe, find_schedule("one_f_one_b"));
  ParameterHooks nobody;
  Share share;
  const auto progress = [&](int64_t tokens) {
    share.most = std::max(share.most, tokens / reader.ctx_len()), share.windows += tokens / reader.ctx_len();
  };
  share.result = evaluate(pipeline, nobody, mesh, reader, windows, batch_size, progress, 1);
  return share;
}

// However few windows there are, and however many at once: none waits long for another, and memory is as forecast.
TEST(Evaluate, RanksShareAlike) {
  const TempFolder folder;
  const std::string prefix = folder / "data";
  std::vector<uint16_t> tokens;
  for (int i = 0; i < 16 * 9; ++i) tokens.push_back(static_cast<uint16_t>(i * i % 33));
  write_binidx(prefix, tokens, 8);
  const WindowReader reader(std::make_shared<TokenFiles>(std::vector{prefix}), 8, 33);
  for (const int64_t windows : {1, 6, 16})
    for (const int64_t batch : {1, 3, 12}) {
      Evaluation alone;
      run_as_threads(1, [&](Communicator& world) { alone = share_of(world, reader, windows, batch).result; });
      constexpr int kRanks = 4;
      std::vector<Share> shares(kRanks);
      run_as_threads(kRanks, [&](Communicator& world) {
        shares[static_cast<size_t>(world.rank())] = share_of(world, reader, windows, batch);
      });
      SCOPED_TRACE(cat(windows, " windows, ", batch, " at once"));
      const int64_t fair = (windows + kRanks - 1) / kRanks;
      int64_t all = 0;
      for (const Share& s : shares) {
        EXPECT_LE(s.most, std::min(batch, fair));
        EXPECT_LE(s.windows, fair + batch - 1);  // whole batches
        EXPECT_EQ(s.result.tokens, windows * reader.ctx_len());
        // Products of another number of rows may add up in another order: a float's rounding of 6e-8, some times.
        EXPECT_NEAR(s.result.loss, alone.loss, 1e-6);
        all += s.windows;
      }
      EXPECT_EQ(all, windows);
    }
}

}  // namespace
}  // namespace gf
