// SPDX-License-Identifier: Apache-2.0
#include "optim/sharded_optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "base/random.h"
#include "optim/adamw.h"
#include "parallel/communicator_threads.h"
#include "support/bits.h"
#include "support/small_model.h"

namespace gf {
namespace {

class OptimizerTest : public testing::Test {
 protected:
  OptimizerTest() : layers(small_config("x060")) {
    store().allocate(kCpu, DType::f32, ParameterStore::Gradients::zeroed);
    fill_hashed(store());
  }
  ParameterStore& store() { return layers.parameters(); }

  // Gradients of every parameter but not of the padding; -> their norm.
  double fill_gradients(double size) {
    double squares = 0;
    for (const auto& p : store().all()) {
      const Random random(9, p->name());
      for (int64_t i = 0; i < p->shape().numel(); ++i) {
        const auto g = static_cast<float>(size * random.uniform(static_cast<uint64_t>(i)));
        p->grad().data<float>()[i] = g;
        squares += static_cast<double>(g) * g;
      }
    }
    return std::sqrt(squares);
  }

  std::unique_ptr<Communicator> self = make_self_communicator();
  LayerStack layers;
};

TEST_F(OptimizerTest, EachParameterStepsByItsGroup) {
  const Tensor before = clone(store().values());
  ShardedOptimizer optimizer(layers, *self, {0.9, 0.99, 1e-8, 0}, {});
  const double norm = fill_gradients(1);
  const auto update = optimizer.step(1e-3, 0.1);
  EXPECT_TRUE(update.applied);
  EXPECT_NEAR(update.grad_norm, norm, 1e-12 * norm);
  EXPECT_EQ(optimizer.updates(), 1);
  EXPECT_EQ(sum_of_squares(store().grads()), 0);
  for (const auto& p : store().all()) {
    const Group group = group_of(p->spec(), {});
    for (int64_t i = 0; i < p->shape().numel(); ++i) {
      const double old = before.data<float>()[p->begin() + i];
      const double g = Random(9, p->name()).uniform(static_cast<uint64_t>(i));
      // The first step of AdamW: the learning rate against the gradient, whatever its size, and the decay.
      const double want =
          old - 1e-3 * group.lr_scale * g / (std::fabs(g) + 1e-8) - 1e-3 * (group.decays ? 0.1 : 0) * old;
      // Three roundings of the parameter, and some of its step.
      ASSERT_NEAR(p->value().data<float>()[i], want, 3 * 6e-8 * std::fabs(old) + 2e-9) << p->name() << " " << i;
    }
  }
}

TEST_F(OptimizerTest, ThePaddingStaysZero) {
  ShardedOptimizer optimizer(layers, *self, {}, {});
  for (int step = 0; step < 3; ++step) {
    fill_gradients(1);
    optimizer.step(1e-2, 0.1);
  }
  std::set<int64_t> used;
  for (const auto& p : store().all())
    for (int64_t i = p->begin(); i < p->end(); ++i) used.insert(i);
  for (int64_t i = 0; i < store().flat_size(); ++i)
    ASSERT_TRUE(used.contains(i) || store().values().data<float>()[i] == 0);
}

// Scaling all gradients changes nothing in Adam but against eps; so clipping shows in the moments.
TEST_F(OptimizerTest, ClipsByTheGlobalNorm) {
  for (const double limit : {0.0, 0.5, 1e6}) {
    LayerStack stack(layers.config());
    stack.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::zeroed);
    fill_hashed(stack.parameters());
    const double norm = fill_gradients(0.1);
    copy(store().grads(), stack.parameters().grads());
    ShardedOptimizer optimizer(stack, *self, {0.9, 0.99, 1e-8, limit}, {});
    EXPECT_NEAR(optimizer.step(1e-3, 0).grad_norm, norm, 1e-12 * norm) << "before clipping";
    double moments = 0;
    for (const ShardView& v : optimizer.moments())
      if (v.name.starts_with("optim/exp_avg/"))
        for (int64_t i = 0; i < v.end - v.begin; ++i) moments += std::pow(reinterpret_cast<const float*>(v.data)[i], 2);
    const double want = limit > 0 && limit < norm ? limit : norm;
    // torch divides by norm + 1e-6, and so do we; float32 rounds a thousandfold less than 1e-5.
    EXPECT_NEAR(std::sqrt(moments) / 0.1, want, 1e-5 * want) << "limit " << limit;
  }
}

TEST_F(OptimizerTest, WhatIsNotFiniteChangesNothing) {
  ShardedOptimizer optimizer(layers, *self, {}, {});
  fill_gradients(1);
  optimizer.step(1e-3, 0.1);
  const auto state = [&] {
    std::vector<Tensor> all{clone(store().values())};
    for (const ShardView& v : optimizer.moments()) {
      Tensor t = Tensor::empty({v.end - v.begin}, DType::f32, kCpu);
      std::memcpy(t.raw(), v.data, t.bytes());
      all.push_back(t);
    }
    return all;
  };
  const auto before = state();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    fill_gradients(1);
    store().all().back()->grad().data<float>()[3] = bad;
    const auto update = optimizer.step(1e-3, 0.1);
    EXPECT_FALSE(update.applied);
    EXPECT_FALSE(std::isfinite(update.grad_norm));
    EXPECT_EQ(optimizer.updates(), 1);
    const auto after = state();
    for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(same_bits(after[i], before[i])) << i;
  }
  fill_gradients(1);
  EXPECT_TRUE(optimizer.step(1e-3, 0.1).applied) << "and goes on";
}

TEST_F(OptimizerTest, LargeGradientsAreNoInfinities) {
  ShardedOptimizer optimizer(layers, *self, {}, {});
  const double norm = fill_gradients(1e30);  // whose squares are beyond float32
  const auto update = optimizer.step(1e-3, 0.1);
  EXPECT_TRUE(update.applied);
  EXPECT_NEAR(update.grad_norm, norm, 1e-9 * norm);
  EXPECT_TRUE(std::isfinite(sum_of_squares(store().values())));
}

// Every element once, under its published name: what a checkpoint is made of.
void expect_covers(const ParameterStore& store, const std::vector<ShardView>& views, const std::string& prefix,
                   const std::byte* flat) {
  std::map<std::string, const ShardView*> by_name;
  for (const ShardView& v : views)
    EXPECT_TRUE(!v.name.starts_with(prefix) || by_name.emplace(v.name.substr(prefix.size()), &v).second) << v.name;
  EXPECT_EQ(by_name.size(), store.all().size());
  for (const auto& p : store.all()) {
    ASSERT_TRUE(by_name.contains(p->name())) << prefix << p->name();
    const ShardView& v = *by_name[p->name()];
    EXPECT_EQ(v.shape, p->shape());
    EXPECT_EQ(v.dtype, DType::f32);
    EXPECT_EQ(v.begin, 0);
    EXPECT_EQ(v.end, p->shape().numel());
    EXPECT_EQ(v.data, flat + 4 * p->begin());
  }
}

TEST_F(OptimizerTest, ViewsCoverTheFlatBuffersOnce) {
  ShardedOptimizer optimizer(layers, *self, {}, {});
  const auto parameters = optimizer.parameters(), moments = optimizer.moments();
  expect_covers(store(), parameters, "model/", store().values().raw());
  EXPECT_EQ(moments.size(), 2 * store().all().size());
  expect_covers(store(), moments, "optim/exp_avg/", moments[0].data);
  expect_covers(store(), moments, "optim/exp_avg_sq/", moments[store().all().size()].data);
}

// What the views show, written into another optimizer, goes on with the same bits.
TEST_F(OptimizerTest, ResumesFromItsViews) {
  ShardedOptimizer first(layers, *self, {}, {});
  for (int step = 0; step < 3; ++step) {
    fill_gradients(0.1 * (step + 1));
    first.step(1e-3, 0.1);
  }
  LayerStack other(layers.config());
  other.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::zeroed);
  ShardedOptimizer second(other, *self, {}, {});
  const auto transfer = [](const std::vector<ShardView>& from, const std::vector<ShardView>& to) {
    for (size_t i = 0; i < from.size(); ++i)
      std::memcpy(to[i].data, from[i].data, static_cast<size_t>(from[i].end - from[i].begin) * 4);
  };
  transfer(first.parameters(), second.parameters());
  transfer(first.moments(), second.moments());
  second.set_updates(first.updates());
  fill_gradients(0.3);
  copy(store().grads(), other.parameters().grads());
  first.step(1e-3, 0.1);
  second.step(1e-3, 0.1);
  EXPECT_TRUE(same_bits(store().values(), other.parameters().values()));
}

// Moves nothing before it is waited for, and counts what is on its way.
class Lazy final : public Communicator {
 public:
  Lazy(std::unique_ptr<Communicator> inner, int& most) : inner_(std::move(inner)), most_(most) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) override { return inner_->all_gather(shard, whole); }
  std::unique_ptr<Work> all_to_all(Tensor from, Tensor to) override {
    return std::make_unique<Counted>(inner_->all_to_all(from, to), pending_, most_);
  }
  std::vector<std::unique_ptr<Work>> exchange(std::span<const Message> all) override { return inner_->exchange(all); }
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Communicator> split(int color, int key) override { return inner_->split(color, key); }

 private:
  class Counted final : public Work {
   public:
    Counted(std::unique_ptr<Work> inner, int& pending, int& most) : inner_(std::move(inner)), pending_(pending) {
      most = std::max(most, ++pending_);
    }
    bool poll() override { return false; }
    void wait() override {
      inner_->wait();
      --pending_;
    }

   private:
    std::unique_ptr<Work> inner_;
    int& pending_;
  };
  std::unique_ptr<Communicator> inner_;
  int pending_ = 0;
  int& most_;
};

// Each reduction takes its bucket's memory again: however slow they are, there is one at a time.
TEST(ShardedOptimizer, ReducesOneBucketAtATime) {
  for (const int zero : {0, 1, 2, 3}) {
    run_as_threads(2, [&](Communicator& world) {
      int most = 0;
      Lazy data(world.split(0, world.rank()), most);
      const ModelConfig config = small_config("x060");
      LayerStack layers(config, layout_of(config), std::make_shared<ParameterStore>(Sharding::layer_multiple(2, zero)));
      layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::zeroed);
      fill_hashed(layers.parameters());
      ShardedOptimizer optimizer({&layers}, layers.parameters(), {world, data}, layers.parameters().names(), {}, {},
                                 {zero, 1});
      ASSERT_GT(layers.ranges().size(), 3u) << "a bucket each";
      optimizer.begin_step(1);
      for (size_t i = layers.ranges().size(); i-- > 0;) {
        optimizer.gradients_done(layers.ranges()[i]);
        optimizer.look();
      }
      EXPECT_TRUE(optimizer.step(1e-3, 0).applied);
      EXPECT_EQ(most, 1) << "zero " << zero;
    });
  }
}

}  // namespace
}  // namespace gf
