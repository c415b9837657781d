// SPDX-License-Identifier: Apache-2.0
// What of a sharded optimizer's parameters and moments is where: what a rank begins with, saves and reads.
#include <algorithm>

#include "optim/sharded_parts.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

FlatRange all_of(const Parameter& p) {
  return {p.begin(), p.end()};
}

ShardView view_of(const std::string& prefix, const Parameter& p, FlatRange part, const Tensor& piece) {
  return {prefix + p.name(),    piece.dtype(), p.shape(),     part.begin - p.begin(),
          part.end - p.begin(), piece.raw(),   piece.device()};
}

}  // namespace

const ShardedOptimizer::Bucket& ShardedOptimizer::bucket_of_parameter(const Parameter& p) const {
  return buckets_[bucket_of(buckets_, {p.frozen() ? FlatRange() : all_of(p), all_of(p)})];
}

FlatRange ShardedOptimizer::own_of(const Parameter& p) const {
  const Bucket& b = bucket_of_parameter(p);
  const FlatRange own = p.frozen() ? b.own_frozen : b.own;
  const int64_t begin = std::clamp(own.begin, p.begin(), p.end());
  return {begin, std::clamp(own.end, begin, p.end())};
}

int64_t ShardedOptimizer::state_of(const Parameter& p, int64_t flat) const {
  const Bucket& b = bucket_of_parameter(p);
  return p.frozen() ? b.frozen_state + flat - b.own_frozen.begin : b.state + flat - b.own.begin;
}

FlatRange ShardedOptimizer::kept_of(const Parameter& p) const {
  const bool whole = rounds() ? owns_all() : sharding_.zero < 3 || bucket_of_parameter(p).shared;
  return whole ? all_of(p) : own_of(p);
}

Tensor ShardedOptimizer::kept(const Parameter& p, FlatRange part) const {
  if (!rounds()) return (p.frozen() ? store_.frozen_values() : store_.values()).range(part.begin, part.end);
  const int64_t at = state_of(p, part.begin);
  return (p.frozen() ? frozen_masters_ : masters_).range(at, at + part.size());
}

void ShardedOptimizer::make_masters() {
  int64_t frozen = 0;
  for (const Bucket& b : buckets_) frozen += b.own_frozen.size();
  if (owns_all()) frozen = store_.frozen_size();
  masters_ = Tensor::zeros(exp_avg_.shape(), DType::f32, exp_avg_.device());
  frozen_masters_ = Tensor::zeros({frozen}, DType::f32, exp_avg_.device());
  for_masters([](const Tensor& master, const Tensor& value) { convert(value, master); });
}

void ShardedOptimizer::for_masters(const std::function<void(const Tensor& master, const Tensor& value)>& body) const {
  const auto piece = [&](const Tensor& masters, int64_t state, const Tensor& values, FlatRange flat) {
    if (flat.size() > 0) body(masters.range(state, state + flat.size()), values.range(flat.begin, flat.end));
  };
  if (owns_all()) {
    piece(masters_, 0, store_.values(), {0, store_.flat_size()});
    piece(frozen_masters_, 0, store_.frozen_values(), {0, store_.frozen_size()});
    return;
  }
  for (const Bucket& b : buckets_) {
    piece(masters_, b.state, store_.values(), b.own);
    piece(frozen_masters_, b.frozen_state, store_.frozen_values(), b.own_frozen);
  }
}

void ShardedOptimizer::set(const Parameter& p, const Tensor& numbers) {
  const FlatRange here = kept_of(p);
  if (rounds()) {  // values_were_set() makes the value
    if (here.size() > 0) copy(numbers.range(here.begin - p.begin(), here.end - p.begin()), kept(p, here));
    return;
  }
  p.set(numbers);
  const Tensor& flat = p.frozen() ? store_.frozen_values() : store_.values();
  if (flat.device() == kCpu) drop_others(flat, all_of(p), here);  // at once: a model may be larger than the memory
}

void ShardedOptimizer::values_were_set() {
  if (rounds()) for_masters([](const Tensor& master, const Tensor& value) { convert(master, value); });
  for (Bucket& b : buckets_) {
    if (sharding_.zero == 3 && !b.shared) {
      drop_values(b);
    } else if (rounds() && !owns_all()) {  // the others' parts, which they alone can round
      b.whole = false;
      gather(b);
      if (b.frozen.size() > 0) begin_gathering(b, store_.frozen_values(), b.frozen, b.own_frozen);
      finish_gathering(b);
    }
  }
}

size_t ShardedOptimizer::bytes() const {
  return exp_avg_.bytes() + exp_avg_sq_.bytes() + (rounds() ? masters_.bytes() + frozen_masters_.bytes() : 0);
}

std::vector<ShardView> ShardedOptimizer::parameters() const {
  std::vector<ShardView> all;
  for (const auto* parts : {&parts_, &frozen_parts_})
    for (const Part& part : *parts)
      if (part.mine) all.push_back(view_of("model/", *part.parameter, part.flat, kept(*part.parameter, part.flat)));
  return all;
}

std::vector<ShardView> ShardedOptimizer::parameters_to_read() const {
  std::vector<ShardView> all;
  for (const auto& p : store_.all())
    if (const FlatRange here = kept_of(*p); here.size() > 0) all.push_back(view_of("model/", *p, here, kept(*p, here)));
  return all;
}

std::vector<ShardView> ShardedOptimizer::moments_of(const std::vector<Part>& parts) const {
  std::vector<ShardView> all;
  for (const auto& [prefix, tensor] :
       {std::pair("optim/exp_avg/", exp_avg_), std::pair("optim/exp_avg_sq/", exp_avg_sq_)}) {
    for (const Part& part : parts) {
      if (!part.mine) continue;
      const int64_t at = state_of(*part.parameter, part.flat.begin);
      all.push_back(view_of(prefix, *part.parameter, part.flat, tensor.range(at, at + part.flat.size())));
    }
  }
  return all;
}

std::vector<ShardView> ShardedOptimizer::moments() const {
  return moments_of(parts_);
}

std::vector<ShardView> ShardedOptimizer::moments_to_read() const {
  std::vector<Part> all;
  for (const auto& p : store_.all()) {
    const FlatRange here = owns_all() ? all_of(*p) : own_of(*p);
    if (!p->frozen() && here.size() > 0) all.push_back({p.get(), here, 0, true});
  }
  return moments_of(all);
}

}  // namespace gf
