// SPDX-License-Identifier: Apache-2.0
// Float32 masters beside bf16 values, shared out over data ranks. Gradients are made up, so that a CPU, which computes
// no pass in bf16, takes the same steps.
#include <gtest/gtest.h>

#include <mutex>

#include "base/random.h"
#include "model/initialise.h"
#include "optim/sharded_optimizer.h"
#include "parallel/communicator_staged.h"
#include "parallel/communicator_threads.h"
#include "parallel/mesh.h"
#include "support/shard_views.h"
#include "support/small_model.h"
#include "tensor/float_formats.h"
#include "tensor/on_device.h"

namespace gf {
namespace {

constexpr int kSteps = 3;

struct Job {
  int data = 1, zero = 0;
  Device device = kCpu;
  std::string name() const { return cat("data ", data, " zero ", zero); }
};

// Two lower layers and two GOLD ones, of which the lowest is frozen: some buckets have both, and one, that of the key
// expansion, stays whole under zero 3.
Tuning tuning(std::string_view name) {
  return {name.starts_with("emb") || name.starts_with("blocks.0") || name == "ln_out.weight", 1};
}

class Rank {
 public:
  Rank(const Job& job, std::unique_ptr<Communicator> ranks)
      : mesh_(make_mesh(std::move(ranks), 1, job.data)),
        config_(small_config("x060c2", "x060", "gold")),
        layers_(config_, layout_of(config_),
                std::make_shared<ParameterStore>(Sharding::layer_multiple(job.data, job.zero), tuning)) {
    store().allocate(job.device, DType::bf16, ParameterStore::Gradients::zeroed);
    // Small buckets, so that there are several; no limit on the norm, whose last bits follow from how it is cut.
    optimizer_ = std::make_unique<ShardedOptimizer>(
        std::vector<const LayerStack*>{&layers_}, store(), ParameterRanks{*mesh_.world, *mesh_.data}, store().names(),
        AdamWConfig{0.9, 0.99, 1e-8, 0}, GroupRules{}, Sharding{job.zero, 20'000});
  }
  ParameterStore& store() { return layers_.parameters(); }
  ShardedOptimizer& optimizer() { return *optimizer_; }

  void fill() {
    for (const auto& p : store().all()) optimizer_->set(*p, hashed_numbers(*p, DType::f32));
    optimizer_->values_were_set();
  }

  void read(const NamedTensors& state, int64_t updates) {
    put(state, optimizer_->parameters_to_read());
    put(state, optimizer_->moments_to_read());
    optimizer_->set_updates(updates);
    optimizer_->values_were_set();
  }

  // As a microbatch goes through the layers, up and down.
  void step(int number) {
    optimizer_->begin_step(1);
    pass_up({});
    for (size_t i = layers_.ranges().size(); i-- > 0;) {
      const LayerRange& layer = layers_.ranges()[i];
      optimizer_->before_use(layer);
      optimizer_->before_gradients(layer);
      for (const auto& p : store().all())
        if (!p->frozen() && layer.trained.begin <= p->begin() && p->begin() < layer.trained.end)
          copy(gradient(*p, number), p->grad());
      optimizer_->after_use(layer);
      optimizer_->gradients_done(layer);
      optimizer_->look();
    }
    EXPECT_TRUE(optimizer_->step(1e-2, 0.1).applied);
  }

  // What layers compute with.
  void expect_values(const NamedTensors& masters) {
    pass_up([&](const Parameter& p) {
      const Tensor value = on(kCpu, p.value());
      const auto& master = masters.at("model/" + p.name());
      for (int64_t i = 0; i < value.numel(); ++i)
        ASSERT_EQ(value.data<BFloat16>()[i].bits, bf16_from_float(master[i])) << p.name() << " " << i;
    });
  }

 private:
  void pass_up(const std::function<void(const Parameter&)>& see) {
    for (const LayerRange& layer : layers_.ranges()) {
      optimizer_->before_use(layer);
      for (const auto& p : store().all()) {
        const FlatRange& range = p->frozen() ? layer.frozen : layer.trained;
        if (see && range.begin <= p->begin() && p->begin() < range.end) see(*p);
      }
      optimizer_->after_use(layer);
    }
  }

  Tensor gradient(const Parameter& p, int number) const {
    const Random random(static_cast<uint64_t>(100 * number + mesh_.data->rank()), p.name());
    Tensor g = Tensor::empty(p.shape(), DType::f32, kCpu);
    for (int64_t i = 0; i < g.numel(); ++i)
      g.data<float>()[i] = static_cast<float>(random.uniform(static_cast<uint64_t>(i)));
    return g;
  }

  Mesh mesh_;
  ModelConfig config_;
  LayerStack layers_;
  std::unique_ptr<ShardedOptimizer> optimizer_;
};

// Runs `body` on each rank. -> what they save then, whole.
NamedTensors on_ranks(const Job& job, const std::function<void(Rank&)>& body) {
  NamedTensors all;
  std::mutex guard;
  run_as_threads(job.data, [&](Communicator& world) {
    if constexpr (kWithCuda)
      if (job.device != kCpu) cuda::use_gpu(job.device.index);
    auto ranks = world.split(0, world.rank());
    if (job.device != kCpu) ranks = make_staged_communicator(std::move(ranks));
    Rank rank(job, std::move(ranks));
    body(rank);
    rank.optimizer().finish_transfers();
    const std::lock_guard lock(guard);
    take(all, rank.optimizer().parameters());
    take(all, rank.optimizer().moments());
  });
  return all;
}

NamedTensors trained(const Job& job, int steps) {
  return on_ranks(job, [&](Rank& rank) {
    rank.fill();
    for (int step = 0; step < steps; ++step) rank.step(step);
  });
}

std::vector<Job> jobs(Device device) {
  std::vector<Job> all{{1, 0, device}};
  for (const int data : {2, 3})
    for (const int zero : {0, 1, 2, 3}) all.push_back({data, zero, device});
  return all;
}

void values_are_rounded_masters(Device device) {
  const NamedTensors start = on_ranks({1, 0, device}, [](Rank& rank) { rank.fill(); });
  for (const Job& job : jobs(device)) {
    SCOPED_TRACE(job.name());
    const NamedTensors fresh = on_ranks(job, [&](Rank& rank) {
      for (const auto& p : rank.store().all()) {  // of zeros
        const Tensor zeros = Tensor::zeros(p->shape(), DType::f32, kCpu);
        rank.optimizer().set(*p, zeros);
      }
      rank.fill();
      rank.expect_values(start);
    });
    EXPECT_TRUE(fresh == start) << "none is nobody's";
    const LayerStack layers(small_config("x060c2", "x060", "gold"));
    for (const auto& p : layers.parameters().all()) {
      const Tensor numbers = hashed_numbers(*p, DType::f32);
      const auto& saved = fresh.at("model/" + p->name());
      ASSERT_EQ(std::ssize(saved), numbers.numel());
      EXPECT_EQ(std::memcmp(saved.data(), numbers.raw(), numbers.bytes()), 0) << p->name() << " in all its bits";
    }
    const NamedTensors after = trained(job, kSteps);
    on_ranks(job, [&](Rank& rank) {
      rank.fill();
      for (int step = 0; step < kSteps; ++step) rank.step(step);
      rank.expect_values(after);
    });
  }
}

void shared_masters_give_the_same_bits(Device device) {
  for (const int data : {2, 3}) {
    const NamedTensors want = trained({data, 0, device}, kSteps), fresh = trained({data, 0, device}, 0);
    for (const auto& [name, values] : want) {
      if (!name.starts_with("model/")) continue;
      EXPECT_EQ(values == fresh.at(name), tuning(name.substr(6)).frozen) << name;
    }
    for (const int zero : {1, 2, 3})
      EXPECT_TRUE(trained({data, zero, device}, kSteps) == want) << "data " << data << " zero " << zero;
  }
}

// On the same ranks, and shared out otherwise.
void what_was_saved_goes_on_with_the_same_bits(Device device) {
  for (const int data : {2, 3}) {
    const NamedTensors saved = trained({data, 1, device}, kSteps), want = trained({data, 0, device}, kSteps + 2);
    for (const int zero : {0, 1, 2, 3}) {
      const Job job{data, zero, device};
      SCOPED_TRACE(job.name());
      const NamedTensors got = on_ranks(job, [&](Rank& rank) {
        rank.read(saved, kSteps);
        rank.expect_values(saved);
        for (int step = kSteps; step < kSteps + 2; ++step) rank.step(step);
      });
      EXPECT_TRUE(got == want);
    }
    const Job others{5 - data, 3, device};
    EXPECT_TRUE(on_ranks(others, [&](Rank& rank) { rank.read(saved, kSteps); }) == saved) << others.name();
  }
}

void a_rank_keeps_its_share(Device device) {
  for (const Job& job : jobs(device)) {
    SCOPED_TRACE(job.name());
    on_ranks(job, [&](Rank& rank) {
      const ParameterStore& store = rank.store();
      const int64_t trained = store.flat_size(), frozen = store.frozen_size(), ranks = job.zero >= 1 ? job.data : 1;
      EXPECT_EQ(rank.optimizer().bytes(), static_cast<size_t>((12 * trained + 4 * frozen) / ranks));
      int64_t read = 0;
      for (const ShardView& v : rank.optimizer().parameters_to_read()) read += v.bytes();
      EXPECT_LE(read, 4 * (trained + frozen) / ranks);
      EXPECT_EQ(store.values().bytes(), static_cast<size_t>(2 * trained));
      EXPECT_EQ(store.frozen_values().bytes(), static_cast<size_t>(2 * frozen));
    });
  }
}

void fresh_masters_are_those_of_float32(Device device) {
  LayerStack whole(small_config("x060c2", "x060", "gold"));
  whole.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  initialise(whole.parameters(), 1337);
  for (const Job& job : jobs(device)) {
    SCOPED_TRACE(job.name());
    const NamedTensors got = on_ranks(job, [&](Rank& rank) {
      initialise(rank.store(), 1337,
                 [&](const Parameter& p, const Tensor& numbers) { rank.optimizer().set(p, numbers); });
      rank.optimizer().values_were_set();
    });
    for (const auto& p : whole.parameters().all())
      EXPECT_EQ(std::memcmp(got.at("model/" + p->name()).data(), p->value().raw(), p->value().bytes()), 0) << p->name();
  }
}

// Where nobody tells more, as in measurements: what the values are.
void masters_begin_as_the_values(Device device) {
  LayerStack layers(small_config("x060"));
  layers.parameters().allocate(device, DType::bf16, ParameterStore::Gradients::zeroed);
  fill_hashed(layers.parameters());
  const auto self = make_self_communicator();
  ShardedOptimizer optimizer(layers, *self, {}, {});
  optimizer.values_were_set();
  NamedTensors masters;
  take(masters, optimizer.parameters());
  for (const auto& p : layers.parameters().all()) {
    const Tensor numbers = hashed_numbers(*p, DType::f32), value = on(kCpu, p->value());
    for (int64_t i = 0; i < numbers.numel(); ++i) {
      const uint16_t bits = bf16_from_float(numbers.data<float>()[i]);
      ASSERT_EQ(value.data<BFloat16>()[i].bits, bits) << p->name() << " " << i;
      ASSERT_EQ(masters.at("model/" + p->name())[i], float_from_bf16(bits)) << p->name() << " " << i;
    }
  }
}

TEST(Masters, ValuesAreRoundedFromThem) {
  values_are_rounded_masters(kCpu);
}
TEST(Masters, GiveTheSameBitsSharedOrNot) {
  shared_masters_give_the_same_bits(kCpu);
}
TEST(Masters, GoOnFromWhatWasSaved) {
  what_was_saved_goes_on_with_the_same_bits(kCpu);
}
TEST(Masters, ARankKeepsItsShare) {
  a_rank_keeps_its_share(kCpu);
}
TEST(Masters, OfFreshParametersAreFloats) {
  fresh_masters_are_those_of_float32(kCpu);
}
TEST(Masters, BeginAsTheValues) {
  masters_begin_as_the_values(kCpu);
}

#ifdef GF_WITH_CUDA
constexpr Device kGpu{Device::Kind::cuda, 0};

TEST(MastersOnGpu, ValuesAreRoundedFromThem) {
  values_are_rounded_masters(kGpu);
}
TEST(MastersOnGpu, GiveTheSameBitsSharedOrNot) {
  shared_masters_give_the_same_bits(kGpu);
}
TEST(MastersOnGpu, GoOnFromWhatWasSaved) {
  what_was_saved_goes_on_with_the_same_bits(kGpu);
}
TEST(MastersOnGpu, ARankKeepsItsShare) {
  a_rank_keeps_its_share(kGpu);
}
TEST(MastersOnGpu, OfFreshParametersAreFloats) {
  fresh_masters_are_those_of_float32(kGpu);
}
TEST(MastersOnGpu, BeginAsTheValues) {
  masters_begin_as_the_values(kGpu);
}
#endif

}  // namespace
}  // namespace gf
