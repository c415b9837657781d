// SPDX-License-Identifier: Apache-2.0
#include "train/planner/traffic.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "optim/sharded_optimizer.h"
#include "parallel/communicator_threads.h"
#include "parallel/rank_model.h"
#include "support/small_model.h"

namespace gf {
namespace {

// Counts what goes out to other ranks; all else is the communicator's below.
class Counting final : public Communicator {
 public:
  Counting(std::unique_ptr<Communicator> inner, double& bytes) : inner_(std::move(inner)), bytes_(bytes) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) override {
    bytes_ += static_cast<double>(shard.bytes()) * (size() - 1);
    return inner_->all_gather(shard, whole);
  }
  std::unique_ptr<Work> all_to_all(Tensor from, Tensor to) override {
    bytes_ += static_cast<double>(from.bytes()) / size() * (size() - 1);
    return inner_->all_to_all(from, to);
  }
  std::vector<std::unique_ptr<Work>> exchange(std::span<const Message> messages) override {
    for (const Message& m : messages)
      if (m.send) bytes_ += static_cast<double>(m.tensor.bytes());
    return inner_->exchange(messages);
  }
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    return std::make_unique<Counting>(inner_->split(color, key), bytes_);
  }

 private:
  std::unique_ptr<Communicator> inner_;
  double& bytes_;
};

struct Layout {
  int pipeline = 1, data = 1, zero = 0;
  std::string schedule = "one_f_one_b";
  int pieces = 1;
  int64_t bucket_bytes = 20'000;
  std::string name() const {
    return cat("pipeline ", pipeline, " data ", data, " zero ", zero, " ", schedule, " pieces ", pieces, " buckets ",
               bucket_bytes);
  }
};

constexpr int64_t kMicro = 2;
constexpr int kMicrobatches = 4;  // of each data rank

Config config_of(const ModelConfig& model, const Layout& l, const std::string& groups = "") {
  Config c;
  c.train.groups.set({.path = "train.groups", .text = groups});
  c.model = model;
  c.train.micro_bsz = kMicro;
  c.train.accumulate_grad_batches = kMicrobatches * l.data;
  c.parallel.pipeline = l.pipeline, c.parallel.schedule = l.schedule, c.parallel.pieces = l.pieces;
  return c;
}

RankShare share_of(const Config& c, const Layout& l, int stage) {
  RankShare share;
  share.stage = stage;
  share.data_ranks = l.data;
  share.partition = balanced_partition(c.model, layer_costs(c.model), l.pipeline * l.pieces);
  share.sharding = {l.zero, l.bucket_bytes};
  share.microbatches = kMicrobatches;
  return share;
}

// Of each rank of the pipeline, in the second step: the first one's parameters were there from the beginning.
std::vector<SentBytes> sent(const Config& c, const Layout& l) {
  std::vector<SentBytes> all(l.pipeline);
  std::mutex guard;
  run_as_threads(l.pipeline * l.data, [&](Communicator& world) {
    SentBytes bytes;
    Mesh mesh = make_mesh(world.split(0, world.rank()), l.pipeline, l.data);
    const int stage = mesh.pipe->rank();
    mesh.pipe = std::make_unique<Counting>(std::move(mesh.pipe), bytes.pipeline);
    mesh.data = std::make_unique<Counting>(std::move(mesh.data), bytes.data);
    const RankShare share = share_of(c, l, stage);
    RankModel model(
        c.model, mesh,
        {share.partition, l.schedule, {}, kMicro, Sharding::layer_multiple(l.data, l.zero), c.train.groups.rule()});
    model.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::zeroed);
    fill_hashed(model.parameters());
    ShardedOptimizer optimizer(model.pieces(), model.parameters(), {*mesh.world, *mesh.data, model.shared()},
                               parameter_names(c.model), {}, {}, share.sharding);
    optimizer.values_were_set();
    for (int step = 0; step < 2; ++step) {
      bytes = {};
      const std::vector<Batch> batches(kMicrobatches, hashed_batch(kMicro, c.model.ctx_len, c.model.vocab_size));
      model.pipeline().run(batches, optimizer);
      EXPECT_TRUE(optimizer.step(1e-3, 0).applied);
    }
    const std::lock_guard lock(guard);
    if (mesh.data->rank() == 0) all[stage] = bytes;
  });
  return all;
}

std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (const int pipeline : {1, 2, 3})
    for (const auto schedule : schedule_names())
      all.push_back({pipeline, 1, 0, std::string(schedule), pipeline == 2 && schedule == "interleaved" ? 2 : 1});
  for (const int zero : {0, 1, 2, 3}) {
    all.push_back({1, 2, zero});
    all.push_back({1, 3, zero, "one_f_one_b", 1, 1 << 20});  // one bucket
    all.push_back({2, 2, zero, "zero_bubble"});
    all.push_back({2, 2, zero, "interleaved", 2});
    all.push_back({2, 2, zero, "gpipe", 2, 1});  // a bucket a layer
    all.push_back({4, 2, zero});
  }
  return all;
}

// The upper half is GOLD: with four stages two of them expand keys, and sum that gradient.
TEST(Traffic, IsWhatRanksAsThreadsSend) {
  for (const ModelConfig& model : {small_config("x060c2", "x060", "gold"), small_config("llama", "llama")}) {
    for (const Layout& l : layouts()) {
      SCOPED_TRACE(model.tmix + " " + l.name());
      const Config c = config_of(model, l);
      const std::vector<SentBytes> seen = sent(c, l);
      for (int stage = 0; stage < l.pipeline; ++stage) {
        const SentBytes want = sent_bytes(c, share_of(c, l, stage));
        EXPECT_EQ(seen[stage].pipeline, want.pipeline) << "stage " << stage;
        EXPECT_EQ(seen[stage].data, want.data) << "stage " << stage;
        EXPECT_EQ(want.pipeline > 0, l.pipeline > 1);
        EXPECT_EQ(want.data > 0, l.data > 1);
      }
    }
  }
}

// What is frozen below, above or in between takes no gradients, and sends none down.
TEST(Traffic, OfFrozenParametersIsWhatRanksAsThreadsSend) {
  const ModelConfig model = small_config("x060c2", "x060", "gold");
  for (const char* frozen : {"emb.*|blocks.[01].*", "emb.*|blocks.0.*|w_kv.*", "blocks.[23].*|head.*"}) {
    for (const Layout& l : layouts()) {
      SCOPED_TRACE(frozen + (" " + l.name()));
      const Config c = config_of(model, l, cat("[{match: \"", frozen, "\", freeze: 1}]")), all = config_of(model, l);
      const std::vector<SentBytes> seen = sent(c, l);
      SentBytes some, whole;
      for (int stage = 0; stage < l.pipeline; ++stage) {
        const SentBytes want = sent_bytes(c, share_of(c, l, stage)), most = sent_bytes(all, share_of(c, l, stage));
        EXPECT_EQ(seen[stage].pipeline, want.pipeline) << "stage " << stage;
        EXPECT_EQ(seen[stage].data, want.data) << "stage " << stage;
        some.pipeline += want.pipeline, some.data += want.data;
        whole.pipeline += most.pipeline, whole.data += most.data;
      }
      EXPECT_LE(some.pipeline, whole.pipeline);
      EXPECT_EQ(some.data<whole.data, l.data> 1);
    }
  }
}

// Reduce-scatter and all-gather of all parameters: 2 (d - 1) / d of them; zero 2 reduces each microbatch.
TEST(Traffic, OfDataRanksFollowsTheFormulas) {
  const ModelConfig model = small_config("x060");
  for (const int d : {2, 4, 8}) {
    for (const int zero : {0, 1, 2}) {
      const Layout l{1, d, zero};
      const Config c = config_of(model, l);
      const RankShare share = share_of(c, l, 0);
      const double one = 4.0 * static_cast<double>(RankLayers(c, share).trained) * (d - 1) / d;
      EXPECT_DOUBLE_EQ(sent_bytes(c, share).data, zero < 2 ? 2 * one : (kMicrobatches + 1) * one);
    }
  }
}

// Layers compute in bf16 with values in bf16: what crosses cuts and what is gathered of values takes half the bytes.
// Gradients are float32 as they are without.
TEST(Traffic, InBf16HalvesAllButGradients) {
  const ModelConfig models[] = {small_config("x060"), small_config("x060c2", "x060", "gold")};
  for (const ModelConfig& model : models) {
    for (const Layout& l : layouts()) {
      SCOPED_TRACE(model.tmix + " " + l.name());
      const Config wide = config_of(model, l);
      Config narrow = wide;
      narrow.train.precision.emplace("bf16");
      for (int stage = 0; stage < l.pipeline; ++stage) {
        const RankShare share = share_of(wide, l, stage);
        const SentBytes in_f32 = sent_bytes(wide, share), in_bf16 = sent_bytes(narrow, share);
        // Of gradients: the sum of what stages share, and in each step, or of each microbatch, those of all parameters.
        const RankLayers rank(wide, share);
        double between_stages = 0, reduced = 0;
        for (const BucketRange& b : rank.buckets) {
          const double bytes = bytes_to_share(b, l.data);
          if (b.shared && expanding_ranks(wide, share.partition) == 2)
            between_stages += 4.0 * static_cast<double>(b.range.size() / l.data);  // a half each, there and back
          reduced += bytes * (l.zero >= 2 && !b.shared ? kMicrobatches : 1) + (l.zero == 0 ? bytes : 0);
        }
        EXPECT_DOUBLE_EQ(in_bf16.pipeline, (in_f32.pipeline + between_stages) / 2);
        EXPECT_DOUBLE_EQ(in_bf16.data, (in_f32.data + reduced) / 2);
        const bool less = in_bf16.data < in_f32.data;
        EXPECT_EQ(less, l.data > 1 && l.zero > 0);
      }
    }
  }
}

// Two stages of two on two nodes: of what a rank sends its only other data rank, or its only other stage, all or
// nothing leaves the node.
TEST(Traffic, WhatLeavesANodeIsCounted) {
  const std::vector<SentBytes> sent = {{.pipeline = 10, .data = 1}, {.pipeline = 20, .data = 2}};
  const auto between = [&](const std::vector<int>& nodes, Near near, int64_t pieces = 1) {
    return bytes_between_nodes(place_ranks(nodes, 2, static_cast<int>(nodes.size()) / 2, near), sent, pieces);
  };
  EXPECT_EQ(between({0, 0, 0, 0}, Near::data), 0);
  EXPECT_EQ(between({0, 0, 1, 1}, Near::data), 2 * (10 + 20));
  EXPECT_EQ(between({0, 0, 1, 1}, Near::pipe), 2 * (1 + 2));
  EXPECT_EQ(between({0, 1, 0, 1}, Near::data, 2), 2 * (10 + 20)) << "wherever the launcher put them, and up or down";
  // Four data ranks of a stage, two on each node: two of the three others are elsewhere.
  EXPECT_DOUBLE_EQ(between({0, 0, 0, 0, 1, 1, 1, 1}, Near::pipe), 4 * (1 + 2) * 2.0 / 3);
  // A ring of three pieces' stages closes.
  const std::vector<SentBytes> three = {{.pipeline = 8}, {.pipeline = 8}, {.pipeline = 8}};
  const Placement p = place_ranks({0, 0, 1}, 3, 1, Near::data);
  EXPECT_EQ(bytes_between_nodes(p, three, 1), 4 + 8);
  EXPECT_EQ(bytes_between_nodes(p, three, 2), 4 + 4 + 8);
}

// Activations grow with the microbatches of a step, gradients do not: what is heavier stays within a node, however the
// ranks were dealt out.
TEST(Traffic, TheHeavierStaysWithinANode) {
  const Layout l{2, 2, 1};
  for (const std::vector<int>& nodes : {std::vector<int>{0, 0, 1, 1}, {0, 1, 0, 1}, {0, 1, 1, 0}}) {
    const auto best = [&](int64_t microbatches) {
      const Config c = config_of(small_config("x060c2", "x060", "gold"), l);
      RankShare share = share_of(c, l, 0);
      share.microbatches = microbatches;
      return best_placement(nodes, sent_by_stages(c, share), 2, 1);
    };
    const Placement few = best(1), many = best(1000);
    EXPECT_TRUE(few.data_within() && !few.pipe_within());
    EXPECT_TRUE(many.pipe_within() && !many.data_within());
  }
  const std::vector<SentBytes> alike = {{.pipeline = 1, .data = 1}, {.pipeline = 1, .data = 1}};
  EXPECT_EQ(best_placement({0, 0, 1, 1}, alike, 2, 1).near, Near::data);
}

}  // namespace
}  // namespace gf
