// SPDX-License-Identifier: Apache-2.0
#include "optim/sharded_optimizer.h"

#include <cmath>

#include "base/trace.h"
#include "optim/adamw.h"
#include "tensor/arithmetic.h"

namespace gf {

ShardedOptimizer::ShardedOptimizer(ParameterStore& store, Communicator& data, const AdamWConfig& config,
                                   const GroupRules& rules)
    : store_(store),
      data_(data),
      config_(config),
      rules_(rules),
      exp_avg_(Tensor::zeros({store.flat_size()}, DType::f32, store.values().device())),
      exp_avg_sq_(Tensor::zeros({store.flat_size()}, DType::f32, store.values().device())) {}

void ShardedOptimizer::reduce(int64_t begin, int64_t end) {
  data_.all_reduce(store_.grads().range(begin, end), Reduce::sum)->wait();
}

double ShardedOptimizer::gradient_norm() const {
  const TraceSpan span(Trace::Kind::op, [&] {
    return Trace::What{"gradient norm", "", static_cast<double>(store_.grads().bytes())};
  });
  return std::sqrt(sum_of_squares(store_.grads()));
}

ShardedOptimizer::Update ShardedOptimizer::step(double learning_rate, double weight_decay) {
  const double norm = gradient_norm();
  if (!std::isfinite(norm)) return {norm, false};
  ++updates_;
  const double clip = config_.clip_norm > 0 ? std::min(1.0, config_.clip_norm / (norm + 1e-6)) : 1.0;
  const auto count = static_cast<double>(updates_);
  const double bias1 = 1 - std::pow(config_.beta1, count), bias2 = 1 - std::pow(config_.beta2, count);
  // Reads and writes parameter, both moments, and the gradient, which it sets to zero.
  const TraceSpan span(Trace::Kind::op, [&] {
    return Trace::What{"adamw", "", 8.0 * static_cast<double>(store_.grads().bytes())};
  });
  for (const auto& p : store_.all()) {
    const Group group = group_of(p->spec(), rules_);
    const AdamWArgs args{p->shape().numel(),
                         p->value().data<float>(),
                         p->grad().data<float>(),
                         exp_avg_.data<float>() + p->begin(),
                         exp_avg_sq_.data<float>() + p->begin(),
                         clip,
                         learning_rate * group.lr_scale,
                         config_.beta1,
                         config_.beta2,
                         bias1,
                         bias2,
                         config_.eps,
                         group.decays ? weight_decay : 0};
    on_device(
        exp_avg_.device(), [&] { cpu::adamw(args); }, [&](auto stream) { cuda::adamw(args, stream); });
  }
  return {norm, true};
}

std::vector<ShardView> ShardedOptimizer::views(const std::string& prefix, const Tensor& flat) {
  std::vector<ShardView> views;
  for (const auto& p : store_.all()) {
    const Tensor piece = flat.range(p->begin(), p->end());
    views.push_back({prefix + p->name(), piece.dtype(), p->shape(), 0, p->shape().numel(), piece.raw()});
  }
  return views;
}

std::vector<ShardView> ShardedOptimizer::parameters() {
  return views("model/", store_.values());
}

std::vector<ShardView> ShardedOptimizer::moments() {
  std::vector<ShardView> all = views("optim/exp_avg/", exp_avg_);
  for (ShardView& v : views("optim/exp_avg_sq/", exp_avg_sq_)) all.push_back(std::move(v));
  return all;
}

}  // namespace gf
