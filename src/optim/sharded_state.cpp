// SPDX-License-Identifier: Apache-2.0
// What of a sharded optimizer's parameters and moments is saved, and what is read.
#include <algorithm>

#include "optim/sharded_parts.h"
#include "tensor/arithmetic.h"

namespace gf {

FlatRange ShardedOptimizer::kept_of(const Parameter& p) const {
  const FlatRange all{p.begin(), p.end()};
  const Bucket& b = buckets_[bucket_of(buckets_, {p.frozen() ? FlatRange() : all, all})];
  if (sharding_.zero < 3 || b.shared) return all;
  const FlatRange own = p.frozen() ? b.own_frozen : b.own;
  const int64_t begin = std::clamp(own.begin, all.begin, all.end);
  return {begin, std::clamp(own.end, begin, all.end)};
}

void ShardedOptimizer::value_was_set(const Parameter& p) {
  const Tensor& flat = p.frozen() ? store_.frozen_values() : store_.values();
  if (flat.device() == kCpu) drop_others(flat, {p.begin(), p.end()}, kept_of(p));
}

std::vector<ShardView> ShardedOptimizer::views_of(const std::vector<Part>& parts, const std::string& prefix,
                                                  const Tensor& tensor, bool states, bool others) {
  std::vector<ShardView> views;
  for (const Part& part : parts) {
    if (!part.mine && !others) continue;
    const int64_t at = states ? part.state : part.flat.begin, begin = part.flat.begin - part.parameter->begin();
    const Tensor piece = tensor.range(at, at + part.flat.size());
    views.push_back({prefix + part.parameter->name(), piece.dtype(), part.parameter->shape(), begin,
                     begin + part.flat.size(), piece.raw(), piece.device()});
  }
  return views;
}

std::vector<ShardView> ShardedOptimizer::parameters() const {
  std::vector<ShardView> all = views_of(parts_, "model/", store_.masters(), false, false);
  for (ShardView& v : views_of(frozen_parts_, "model/", store_.frozen_masters(), false, false))
    all.push_back(std::move(v));
  return all;
}

std::vector<ShardView> ShardedOptimizer::moments() const {
  std::vector<ShardView> all = views_of(parts_, "optim/exp_avg/", exp_avg_, true, false);
  for (ShardView& v : views_of(parts_, "optim/exp_avg_sq/", exp_avg_sq_, true, false)) all.push_back(std::move(v));
  return all;
}

std::vector<ShardView> ShardedOptimizer::parameters_to_read() const {
  std::vector<ShardView> all;
  for (const auto& p : store_.all()) {
    const FlatRange kept = kept_of(*p);
    if (kept.size() == 0) continue;
    const Tensor values = (p->frozen() ? store_.frozen_masters() : store_.masters()).range(kept.begin, kept.end);
    all.push_back({"model/" + p->name(), values.dtype(), p->shape(), kept.begin - p->begin(), kept.end - p->begin(),
                   values.raw(), values.device()});
  }
  return all;
}

std::vector<ShardView> ShardedOptimizer::moments_to_read() const {
  std::vector<ShardView> all;
  for (const auto& [prefix, tensor] :
       {std::pair("optim/exp_avg/", exp_avg_), std::pair("optim/exp_avg_sq/", exp_avg_sq_)}) {
    if (!owns_all()) {
      auto views = views_of(parts_, prefix, tensor, true, true);
      all.insert(all.end(), std::make_move_iterator(views.begin()), std::make_move_iterator(views.end()));
      continue;
    }
    for (const auto& p : store_.all())
      if (!p->frozen())
        all.push_back({prefix + p->name(), DType::f32, p->shape(), 0, p->shape().numel(),
                       tensor.range(p->begin(), p->end()).raw(), tensor.device()});
  }
  return all;
}

}  // namespace gf
