// SPDX-License-Identifier: Apache-2.0
// That a run keeps its cut is tested in tests/end_to_end/plan_test.cpp.
#include "train/planner/settle.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "parallel/communicator_threads.h"
#include "support/binidx_files.h"
#include "support/temp_folder.h"
#include "train/planner/fitting.h"

namespace gf {
namespace {

class Settle : public testing::Test {
 protected:
  // The last block and a large head weigh on the last rank, the microbatches in flight on the first.
  Config config(const std::string& partition = "") const {
    Config c;
    c.model.tmix = "x060c2", c.model.tmix2 = "gold", c.model.n_layer = 9, c.model.n_embd = 64;
    c.model.head_size = 16, c.model.ctx_len = 64, c.model.vocab_size = 4096;
    write_binidx<uint16_t>(folder_ / "data", std::vector<uint16_t>(5000, 7), 8);
    c.train.data_file = DataList(folder_ / "data");
    c.train.proj_dir = folder_ / "out";
    c.train.micro_bsz = 2, c.train.accumulate_grad_batches = 8, c.train.my_exit_tokens = 100'000;
    c.parallel.pipeline = 3;
    if (!partition.empty()) c.parallel.partition.emplace(partition);
    resolve(c);
    check(c);
    return c;
  }

  // What the ranks of a pipeline settle on; all on the same.
  struct Settled {
    std::string cut, key, note;
    bool operator<(const Settled& o) const { return std::tie(cut, key, note) < std::tie(o.cut, o.key, o.note); }
  };
  static Settled settled(const Config& c, size_t room, const Hardware* hardware = nullptr) {
    std::set<Settled> all;
    std::mutex guard;
    run_as_threads(3, [&](Communicator& world) {
      Plan plan(c, 3);
      settle_partition(plan, world, room, hardware);
      const std::lock_guard lock(guard);
      all.insert(
          {text_of(c.model, plan.partition), plan.config.parallel.partition.value_or("auto"), plan.partition_note});
      EXPECT_NE(plan.resolved().find(plan.partition_note), std::string::npos);
    });
    EXPECT_EQ(all.size(), 1u) << "the ranks differ";
    return *all.begin();
  }

  static size_t need_of(const Config& c, const std::string& cut) {
    size_t most = 0;
    Plan plan(c, 3);
    for (int r = 0; r < 3; ++r) {
      RankShare share = plan.share_of(r);
      share.partition = given_partition(c.model, cut, 3);
      MemoryForecast f = forecast_memory(plan.config, share);
      f.fit(0);
      most = std::max(most, f.more());
    }
    return most;
  }
  TempFolder folder_;
};

TEST_F(Settle, AutoIsTheFixedCutWhereItFits) {
  const Config c = config();
  const std::string fixed = text_of(c.model, balanced_partition(c.model, layer_costs(c.model), 3));
  const Settled s = settled(c, size_t{1} << 40);
  EXPECT_EQ(s.cut, fixed);
  EXPECT_EQ(s.key, "auto") << "any start finds it again";
  EXPECT_EQ(s.note, "");
}

TEST_F(Settle, AutoKeepsWithinTheMemoryThatThereIs) {
  const Config c = config();
  const std::string fixed = settled(c, size_t{1} << 40).cut;
  const size_t room = need_of(c, fixed) - 1;
  const Settled s = settled(c, room);
  EXPECT_NE(s.cut, fixed);
  EXPECT_LE(need_of(c, s.cut), room);
  EXPECT_EQ(s.key, s.cut) << "part of the run";
  EXPECT_EQ(s.note, "by cost, within memory");
  // Where nothing fits the fixed cut stays, and check_memory() tells of it.
  EXPECT_EQ(settled(c, 1000).cut, fixed);
}

TEST_F(Settle, MeasuredTimesCutAllRanksAlike) {
  const Settled s = settled(config("measured"), size_t{1} << 40);
  EXPECT_EQ(s.key, s.cut);
  EXPECT_EQ(s.note, "by measured times");
}

TEST_F(Settle, GivenTimesAreTakenInstead) {
  const Config c = config("measured");
  Hardware h;
  h.rank = {1e12, 1, 1e12, 1e11};
  h.measured.emplace();
  h.measured->model = c.model, h.measured->micro_bsz = 2;
  h.measured->layers.lower = h.measured->layers.upper = {1, 1, 1};
  const Settled s = settled(c, size_t{1} << 40, &h);
  EXPECT_EQ(s.cut, "0-2,3-5,6-8") << "nothing but blocks takes time";
  EXPECT_EQ(s.note, "by the times of parallel.hardware");
  h.measured->layers.head = {9, 9, 9};
  EXPECT_EQ(settled(c, size_t{1} << 40, &h).cut, "0-3,4-8,head");
}

TEST_F(Settle, WhatIsGivenStays) {
  const Settled s = settled(config("0,1,2-8"), 1000);
  EXPECT_EQ(s.cut, "0,1,2-8");
  EXPECT_EQ(s.note, "");
}

}  // namespace
}  // namespace gf
