// SPDX-License-Identifier: Apache-2.0
// AdamW over a stage's flat parameters, shared out over the data ranks. Owns the two moments.
#pragma once
#include <vector>

#include "model/parameter.h"
#include "optim/groups.h"
#include "parallel/communicator.h"
#include "tensor/shard_view.h"

namespace gf {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.99, eps = 1e-8;
  double clip_norm = 1;  // largest global norm of the gradient; 0: no limit
};

class ShardedOptimizer {
 public:
  ShardedOptimizer(ParameterStore&, Communicator& data, const AdamWConfig&, const GroupRules&);

  // The gradients of [begin, end) of the flat buffer are complete on this rank: begin to sum them over the ranks.
  void reduce(int64_t begin, int64_t end);

  struct Update {
    double grad_norm;  // before clipping; not finite: nothing was changed
    bool applied;
  };
  // Norm, clipping, AdamW; leaves the gradients zero. weight_decay is for the groups that decay.
  Update step(double learning_rate, double weight_decay);

  int64_t updates() const { return updates_; }  // applied so far: what bias correction counts
  void set_updates(int64_t updates) { updates_ = updates; }

  // The parameters, or the moments, of this rank as pieces of named tensors: model/<name>; optim/exp_avg/<name>,
  // optim/exp_avg_sq/<name>.
  std::vector<ShardView> parameters();
  std::vector<ShardView> moments();
  size_t state_bytes() const { return exp_avg_.bytes() + exp_avg_sq_.bytes(); }

 private:
  double gradient_norm() const;
  std::vector<ShardView> views(const std::string& prefix, const Tensor& flat);

  ParameterStore& store_;
  Communicator& data_;
  AdamWConfig config_;
  GroupRules rules_;
  Tensor exp_avg_, exp_avg_sq_;
  int64_t updates_ = 0;
};

}  // namespace gf
