// SPDX-License-Identifier: Apache-2.0
#include "optim/sharded_optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "optim/sharded_parts.h"
#include "parallel/traced_work.h"
#include "tensor/arithmetic.h"

namespace gf {

int64_t Sharding::layer_multiple(int data_ranks, int zero) {
  constexpr int64_t kPage = 4096 / sizeof(float);
  if (data_ranks == 1) return ParameterStore::kAlign;
  return data_ranks * (zero >= 2 ? kPage : ParameterStore::kAlign);
}

ShardedOptimizer::ShardedOptimizer(const std::vector<const LayerStack*>& pieces, ParameterStore& store,
                                   const ParameterRanks& ranks, const std::vector<std::string>& names,
                                   const AdamWConfig& config, const GroupRules& rules, const Sharding& sharding)
    : store_(store), ranks_(ranks), config_(config), rules_(rules), sharding_(sharding), num_names_(names.size()) {
  if (ranks_.data.size() == 1) sharding_.zero = 0;  // nobody to share with
  make_buckets(pieces);
  make_parts(names);
  int64_t owned = 0;
  for (const Bucket& b : buckets_) owned += b.own.size();
  const int64_t states = owns_all() ? store_.flat_size() : owned;
  exp_avg_ = Tensor::zeros({states}, DType::f32, store_.values().device());
  exp_avg_sq_ = Tensor::zeros({states}, DType::f32, store_.values().device());
  if (rounds()) make_masters();
  make_ranges();
}

ShardedOptimizer::ShardedOptimizer(LayerStack& layers, Communicator& self, const AdamWConfig& config,
                                   const GroupRules& rules)
    : ShardedOptimizer({&layers}, layers.parameters(), {self, self}, layers.parameters().names(), config, rules) {}

ShardedOptimizer::~ShardedOptimizer() = default;

void ShardedOptimizer::make_buckets(const std::vector<const LayerStack*>& pieces) {
  const int ranks = ranks_.data.size(), rank = ranks_.data.rank();
  for (const BucketRange& b : buckets_of(pieces, sharding_.bucket_bytes)) buckets_.emplace_back(b);
  int64_t state = 0, frozen_state = 0;
  for (Bucket& b : buckets_) {
    const auto own_of = [&](FlatRange range) {
      GF_CHECK(range.size() % ranks == 0, "a bucket of ", range.size(), " for ", ranks, " ranks");
      const int64_t part = range.size() / ranks;
      return FlatRange{range.begin + rank * part, range.begin + (rank + 1) * part};
    };
    b.own = own_of(b.range), b.own_frozen = own_of(b.frozen);
    b.state = owns_all() ? b.own.begin : state;
    b.frozen_state = owns_all() ? b.own_frozen.begin : frozen_state;
    state += b.own.size(), frozen_state += b.own_frozen.size();
  }
}

void ShardedOptimizer::make_parts(const std::vector<std::string>& names) {
  std::map<std::string_view, size_t> places;
  for (size_t i = 0; i < names.size(); ++i) places.emplace(names[i], i);
  for (const auto& p : store_.all()) {
    const FlatRange own = own_of(*p);
    if (own.size() == 0) continue;
    const auto place = places.find(p->name());
    GF_CHECK(place != places.end(), p->name(), " is not one of the model's parameters");
    const bool mine = !bucket_of_parameter(*p).shared || !ranks_.shared || ranks_.shared->rank() == 0;
    (p->frozen() ? frozen_parts_ : parts_).push_back({p.get(), own, place->second, mine});
  }
}

void ShardedOptimizer::make_ranges() {
  std::vector<FlatRanges::Range> own, updated;
  const auto update = [&](const Parameter& p, FlatRange flat) {
    updated.push_back({flat, state_of(p, flat.begin), group_of(p.spec(), rules_), p.lr_scale()});
  };
  for (const Part& part : parts_) {
    if (!owns_all()) update(*part.parameter, part.flat);
    if (!part.mine) continue;
    own.push_back({part.flat});
    own_names_.push_back(part.name);
  }
  if (owns_all())
    for (const auto& p : store_.all())
      if (!p->frozen()) update(*p, {p->begin(), p->end()});
  own_.emplace(std::move(own), store_.values().device());
  updated_.emplace(std::move(updated), store_.values().device());
}

ShardedOptimizer::Bucket& ShardedOptimizer::bucket_with(const LayerRange& layer) {
  return buckets_[bucket_of(buckets_, layer)];
}

bool ShardedOptimizer::shares_frozen(const Bucket& b) const {
  return sharding_.zero == 3 && !b.shared && b.frozen.size() > 0;
}

void ShardedOptimizer::begin_step(int64_t microbatches) {
  microbatches_ = microbatches;
  gradients_finished_ = false;
  for (Bucket& b : buckets_) b.done = 0;
}

void ShardedOptimizer::before_use(const LayerRange& layer) {
  if (layer.size() == 0 || ranks_.data.size() == 1) return;
  Bucket& b = bucket_with(layer);
  if (sharding_.zero == 3 && !b.shared) {
    gather(b);
    // The layers go up in a forward pass and down in a backward pass: what comes next is on its way meanwhile. What is
    // gathered or dropped when must not depend on what has arrived, or ranks would not make the same calls.
    const auto here = &b - buckets_.data(), next = here >= last_used_ ? here + 1 : here - 1;
    last_used_ = here;
    for (auto i = std::ssize(buckets_); i-- > 0;) {
      Bucket& other = buckets_[i];
      if (i != here && i != next && !other.shared && other.users == 0 && (other.whole || !other.gathering.empty()))
        drop_values(other);
    }
    if (next >= 0 && next < std::ssize(buckets_) && !buckets_[next].shared) gather(buckets_[next]);
  }
  finish_gathering(b);
  ++b.users;
}

void ShardedOptimizer::after_use(const LayerRange& layer) {
  if (layer.size() == 0 || ranks_.data.size() == 1) return;
  --bucket_with(layer).users;
}

void ShardedOptimizer::before_gradients(const LayerRange& layer) {
  if (layer.trained.size() > 0 && ranks_.data.size() > 1) finish_reduction(bucket_with(layer));
}

void ShardedOptimizer::gradients_done(const LayerRange& layer) {
  if (layer.trained.size() == 0 || ranks_.data.size() == 1) return;
  Bucket& b = bucket_with(layer);
  if (b.shared || ++b.done % b.layers != 0) return;
  if (sharding_.zero >= 2 || b.done == b.layers * microbatches_) reduce(b);
}

// The last one's gradients are reduced layer by layer while those below are still to come.
bool ShardedOptimizer::may_come_at_once(int64_t microbatch) const {
  return ranks_.data.size() == 1 || (sharding_.zero < 2 && microbatch + 1 < microbatches_);
}

void ShardedOptimizer::look() {
  for (Bucket& b : buckets_) {
    if (b.reduction && b.reduction->poll()) finish_reduction(b);
    if (std::ranges::all_of(b.gathering, [](const auto& work) { return work->poll(); })) finish_gathering(b);
  }
}

std::shared_ptr<Trace::Transfer> ShardedOptimizer::begin_transfer(const char* name, const Bucket& b,
                                                                  const Tensor& whole) const {
  return Trace::begin_transfer([&] {
    return Trace::What{
        .name = name, .bytes = static_cast<double>(whole.bytes()), .numbers = {{"bucket", &b - buckets_.data()}}};
  });
}

void ShardedOptimizer::reduce(Bucket& b) {
  if (b.range.size() == 0) return;
  if (reducing_) finish_reduction(*reducing_);
  reducing_ = &b;
  const Tensor &grads = store_.grads(), whole = grads.range(b.range.begin, b.range.end);
  auto transfer = begin_transfer("reduce", b, whole);
  b.reduction =
      traced(ranks_.data.reduce_scatter(whole, grads.range(b.own.begin, b.own.end), Reduce::sum), std::move(transfer));
}

void ShardedOptimizer::finish_reduction(Bucket& b) {
  if (!b.reduction) return;
  wait_for(*b.reduction, "wait for reduced gradients");
  b.reduction.reset();
  reducing_ = nullptr;
  if (sharding_.zero >= 2) drop_others(store_.grads(), b.range, b.own);
}

void ShardedOptimizer::drop_others(const Tensor& flat, FlatRange all, FlatRange own) {
  discard(flat.range(all.begin, own.begin));
  discard(flat.range(own.end, all.end));
}

void ShardedOptimizer::begin_gathering(Bucket& b, const Tensor& values, FlatRange all, FlatRange own) {
  const Tensor whole = values.range(all.begin, all.end);
  auto transfer = begin_transfer("gather", b, whole);
  b.gathering.push_back(traced(ranks_.data.all_gather(values.range(own.begin, own.end), whole), std::move(transfer)));
}

void ShardedOptimizer::gather(Bucket& b) {
  if (b.whole || !b.gathering.empty()) return;
  if (b.range.size() > 0) begin_gathering(b, store_.values(), b.range, b.own);
  if (shares_frozen(b)) begin_gathering(b, store_.frozen_values(), b.frozen, b.own_frozen);
  b.whole = b.gathering.empty();
}

void ShardedOptimizer::finish_gathering(Bucket& b) {
  if (b.gathering.empty()) return;
  for (const auto& work : b.gathering) wait_for(*work, "wait for gathered parameters");
  b.gathering.clear();
  b.whole = true;
}

void ShardedOptimizer::drop_values(Bucket& b) {
  finish_gathering(b);
  drop_others(store_.values(), b.range, b.own);
  if (shares_frozen(b)) drop_others(store_.frozen_values(), b.frozen, b.own_frozen);
  b.whole = false;
}

void ShardedOptimizer::finish_transfers() {
  for (Bucket& b : buckets_) {
    finish_reduction(b);
    finish_gathering(b);
  }
}

void ShardedOptimizer::finish_gradients() {
  if (std::exchange(gradients_finished_, true)) return;
  const TraceSpan span("sum of gradients");
  sum_gradients();
  own_->begin_squares(store_.grads());
}

void ShardedOptimizer::sum_gradients() {
  for (Bucket& b : buckets_) {
    if (b.shared && ranks_.data.size() > 1) reduce(b);
    finish_reduction(b);
  }
  const Tensor& grads = store_.grads();
  for (const Bucket& b : buckets_) {
    if (!b.shared || !ranks_.shared || b.range.size() == 0) continue;
    const Tensor own = grads.range(b.own.begin, b.own.end);
    const auto transfer = begin_transfer(kReduceBetweenStages, b, own);
    ranks_.shared->all_reduce(own, Reduce::sum);
    if (transfer) transfer->end();
  }
  if (!owns_all() || ranks_.data.size() == 1) return;
  for (const Bucket& b : buckets_) {
    if (b.range.size() == 0) continue;
    const Tensor whole = grads.range(b.range.begin, b.range.end);
    auto transfer = begin_transfer("gather gradients", b, whole);
    wait_for(*traced(ranks_.data.all_gather(grads.range(b.own.begin, b.own.end), whole), std::move(transfer)),
             "wait for gathered gradients");
  }
}

// One sum a parameter, added up in the order of the whole model: the same bits however the model is cut into stages.
double ShardedOptimizer::gradient_norm() {
  const TraceSpan span(Trace::Kind::op, [&] {
    return Trace::What{"gradient norm", "", static_cast<double>(store_.grads().bytes())};
  });
  const Tensor squares = Tensor::zeros({static_cast<int64_t>(num_names_)}, DType::f64, kCpu);
  double* const square = squares.data<double>();
  const std::vector<double> sums = own_->take_squares();
  for (size_t i = 0; i < sums.size(); ++i) square[own_names_[i]] += sums[i];
  ranks_.world.all_reduce(squares, Reduce::sum);
  double sum = 0;
  for (size_t i = 0; i < num_names_; ++i) sum += square[i];
  return std::sqrt(sum);
}

ShardedOptimizer::Update ShardedOptimizer::step(double learning_rate, double weight_decay,
                                                const std::function<bool(double norm)>& accepts) {
  const TraceSpan span("optimizer");
  finish_gradients();
  gradients_finished_ = false;
  const double norm = gradient_norm();
  if ((accepts && !accepts(norm)) || !std::isfinite(norm)) return {norm, false};
  ++updates_;
  update_all(norm, learning_rate, weight_decay);
  spread_update();
  return {norm, true};
}

void ShardedOptimizer::skip() {
  if (owns_all()) return fill_zero(store_.grads());
  for (const Part& part : parts_) fill_zero(store_.grads().range(part.flat.begin, part.flat.end));
  spread_update();
}

void ShardedOptimizer::update_all(double norm, double learning_rate, double weight_decay) {
  if (updated_->empty()) return;
  const double clip = config_.clip_norm > 0 ? std::min(1.0, config_.clip_norm / (norm + 1e-6)) : 1.0;
  const auto count = static_cast<double>(updates_);
  const double bias1 = 1 - std::pow(config_.beta1, count), bias2 = 1 - std::pow(config_.beta2, count);
  // Reads and writes parameter, both moments, and the gradient, which it sets to zero.
  const TraceSpan span(Trace::Kind::op, [&] {
    return Trace::What{"adamw", "", 8.0 * static_cast<double>(exp_avg_.bytes())};
  });
  const Tensor& updated = rounds() ? masters_ : store_.values();
  updated_->adamw({0, updated.data<float>(), store_.grads().data<float>(), exp_avg_.data<float>(),
                   exp_avg_sq_.data<float>(), rounds() ? store_.values().data<BFloat16>() : nullptr, clip,
                   learning_rate, config_.beta1, config_.beta2, bias1, bias2, config_.eps, weight_decay});
}

// What others have updated, and what they will add gradients to.
void ShardedOptimizer::spread_update() {
  if (owns_all()) return;
  for (Bucket& b : buckets_) {
    if (sharding_.zero == 1) {
      fill_zero(store_.grads().range(b.range.begin, b.own.begin));
      fill_zero(store_.grads().range(b.own.end, b.range.end));
    } else if (b.shared) {
      drop_others(store_.grads(), b.range, b.own);
    }
    if (sharding_.zero == 3 && !b.shared) {
      drop_values(b);
    } else {
      b.whole = false;
      gather(b);
    }
  }
  last_used_ = 0;
}

}  // namespace gf
