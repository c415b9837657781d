// SPDX-License-Identifier: Apache-2.0
// AdamW over a rank's flat parameters, shared out over the data ranks as ZeRO does (Rajbhandari et al. 2020). Owns the
// two moments and, where values are bf16, their masters: the float32 numbers that it updates, that values are rounded
// from and checkpoints keep. Decides which parameters and gradients are in memory when.
//
// Layers are gathered into buckets; of each bucket every data rank owns an equal part. zero 0: all ranks keep and
// update everything. 1: each keeps the moments and masters of its parts and updates those; the new values are gathered
// while the next forward pass begins. 2: a rank also gives away the gradients of the others' parts as soon as a
// microbatch has added to all of a bucket. 3: it also keeps only its parts of the values, and gathers a bucket ahead of
// its use. One bucket is reduced at a time, since that takes its size of memory again (Communicator::reduce_scatter).
// What is given away leaves its place in the flat buffers: addresses stay, memory goes. Frozen parameters have values
// and masters alone: values only come and go under zero 3, and each rank saves its part of them.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/trace.h"
#include "model/layer_stack.h"
#include "optim/buckets.h"
#include "optim/flat_ranges.h"
#include "optim/groups.h"
#include "parallel/communicator.h"
#include "tensor/shard_view.h"

namespace gf {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.99, eps = 1e-8;
  double clip_norm = 1;  // largest global norm of the gradient; 0: no limit
};

struct Sharding {
  int zero = 0;
  int64_t bucket_bytes = int64_t{200} << 20;  // of gradients reduced at a time; a larger layer is a bucket of its own
  // Of ParameterStore: parts of a bucket are of equal size, and of whole pages where these come and go.
  static int64_t layer_multiple(int data_ranks, int zero);
};

// Who holds what this rank holds.
struct ParameterRanks {
  Communicator& world;  // all ranks: for the norm
  Communicator& data;   // those of the same stages
  // Stages that share the layers named key_expand; null where one alone has them. The first of them speaks for all.
  Communicator* shared = nullptr;
};

class ShardedOptimizer final : public ParameterHooks {
 public:
  // `pieces` share one store, which must have been allocated; `names` are those of all the model's parameters, in the
  // order of the whole model: the order of the norm's sum. Masters begin as what bf16 values are.
  ShardedOptimizer(const std::vector<const LayerStack*>& pieces, ParameterStore&, const ParameterRanks&,
                   const std::vector<std::string>& names, const AdamWConfig&, const GroupRules&, const Sharding& = {});
  // The whole model on one rank.
  ShardedOptimizer(LayerStack&, Communicator& self, const AdamWConfig&, const GroupRules&);
  ~ShardedOptimizer() override;

  // What a pipeline tells: see ParameterHooks.
  void begin_step(int64_t microbatches) override;
  void before_use(const LayerRange&) override;
  void after_use(const LayerRange&) override;
  void before_gradients(const LayerRange&) override;
  void gradients_done(const LayerRange&) override;
  void look() override;
  bool may_come_at_once(int64_t microbatch) const override;

  struct Update {
    double grad_norm;  // before clipping
    bool applied;      // else nothing was changed, and the gradients are still there
  };
  // Sums up over the ranks what is left of the gradients, and begins their norm, so that a GPU can be told more before
  // step() waits for it. step() does so itself where nobody did.
  void finish_gradients();
  // Norm, clipping, AdamW; leaves the gradients zero. weight_decay is for the groups that decay. A norm that is not
  // finite, or that `accepts` does not accept, is not applied; every rank must answer alike.
  Update step(double learning_rate, double weight_decay, const std::function<bool(double norm)>& accepts = {});
  void skip();  // after one that was not applied: leaves the gradients zero, and all else as it is
  // What was begun and nobody has waited for, such as what the last step spreads for a next one, comes to its end. For
  // where all ranks are together, before this goes: then the others wait for it too.
  void finish_transfers();

  int64_t updates() const { return updates_; }  // applied so far: what bias correction counts
  void set_updates(int64_t updates) { updates_ = updates; }

  // The parts that this rank saves, each element of the model being one rank's: model/<name>; and of what is trained
  // optim/exp_avg/<name>, optim/exp_avg_sq/<name>.
  std::vector<ShardView> parameters() const;
  std::vector<ShardView> moments() const;
  // What this rank has to read, of which others may save parts.
  std::vector<ShardView> parameters_to_read() const;
  std::vector<ShardView> moments_to_read() const;
  // What a parameter begins with, in float32 on the CPU, of which this rank takes what it keeps. By any thread where
  // values are float32 on the CPU.
  void set(const Parameter&, const Tensor& numbers);
  // After that, or after reading: what layers compute with is there then, and what other ranks keep may have gone. By
  // all data ranks at once.
  void values_were_set();
  // Of what it owns.
  size_t bytes() const;

 private:
  struct Bucket;
  struct Part;  // of a parameter, owned by this rank
  void make_buckets(const std::vector<const LayerStack*>&);
  void make_parts(const std::vector<std::string>& names);
  void make_ranges();
  Bucket& bucket_with(const LayerRange&);
  const Bucket& bucket_of_parameter(const Parameter&) const;
  FlatRange own_of(const Parameter&) const;  // this rank's part of it, which may be empty
  // Where the moments and the master of the number at `flat` lie, one of those that are kept here.
  int64_t state_of(const Parameter&, int64_t flat) const;
  std::vector<ShardView> moments_of(const std::vector<Part>&) const;
  // The part of its float32 numbers that is always here, and such a part as it lies here.
  FlatRange kept_of(const Parameter&) const;
  Tensor kept(const Parameter&, FlatRange) const;
  void make_masters();
  // Each piece of the masters with the values that are rounded from it.
  void for_masters(const std::function<void(const Tensor& master, const Tensor& value)>&) const;
  bool rounds() const { return store_.values().dtype() == DType::bf16; }
  // Frozen values never change, and are there once and for all under zero 0 to 2.
  bool shares_frozen(const Bucket&) const;
  std::shared_ptr<Trace::Transfer> begin_transfer(const char* name, const Bucket&, const Tensor& whole) const;
  void reduce(Bucket&);
  void finish_reduction(Bucket&);
  static void drop_others(const Tensor& flat, FlatRange all, FlatRange own);
  void begin_gathering(Bucket&, const Tensor& values, FlatRange all, FlatRange own);
  void gather(Bucket&);
  void finish_gathering(Bucket&);
  void drop_values(Bucket&);
  void sum_gradients();
  double gradient_norm();
  void update_all(double norm, double learning_rate, double weight_decay);
  void spread_update();
  bool owns_all() const { return sharding_.zero == 0; }  // of moments, masters and gradients

  ParameterStore& store_;
  ParameterRanks ranks_;
  AdamWConfig config_;
  GroupRules rules_;
  Sharding sharding_;
  size_t num_names_ = 0;
  std::vector<Bucket> buckets_;  // in the order of the flat buffers
  Bucket* reducing_ = nullptr;   // its gradients are on their way
  std::vector<Part> parts_, frozen_parts_;
  Tensor exp_avg_, exp_avg_sq_;              // of the owned parts, one after another; zero 0: of all
  Tensor masters_, frozen_masters_;          // likewise, where values are rounded
  std::optional<FlatRanges> own_, updated_;  // what this rank's part of the norm is made of, and what it updates
  std::vector<size_t> own_names_;            // of the first, their places in the order of the norm
  bool gradients_finished_ = false;
  int64_t microbatches_ = 0;
  int64_t last_used_ = 0;  // bucket
  int64_t updates_ = 0;
};

}  // namespace gf
