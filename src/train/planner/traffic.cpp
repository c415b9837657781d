// SPDX-License-Identifier: Apache-2.0
#include "train/planner/traffic.h"

#include <algorithm>
#include <map>

#include "parallel/communicator.h"

namespace gf {
namespace {

// Which buckets' values are here, under zero 3: ShardedOptimizer::before_use(), without the values.
class Window {
 public:
  explicit Window(const std::vector<BucketRange>& buckets) : buckets_(buckets), here_(buckets.size(), false) {}

  void use(size_t bucket, std::vector<size_t>& gathers) {
    if (buckets_[bucket].shared) return;
    gather(bucket, gathers);
    const auto here = static_cast<int64_t>(bucket), next = here >= last_ ? here + 1 : here - 1;
    last_ = here;
    for (int64_t i = 0; i < std::ssize(here_); ++i)
      if (i != here && i != next) here_[i] = false;
    if (next >= 0 && next < std::ssize(here_) && !buckets_[next].shared) gather(static_cast<size_t>(next), gathers);
  }

 private:
  void gather(size_t bucket, std::vector<size_t>& gathers) {
    if (!here_[bucket]) gathers.push_back(bucket);
    here_[bucket] = true;
  }
  const std::vector<BucketRange>& buckets_;
  std::vector<bool> here_;
  int64_t last_ = 0;
};

// Of an all-reduce of so many numbers over `ranks` (see Communicator::all_reduce).
double bytes_to_all_reduce(int64_t numbers, int ranks) {
  const int64_t part = (numbers + ranks - 1) / ranks;
  return static_cast<double>(sizeof(float)) * (ranks - 1) *
         static_cast<double>(numbers <= Communicator::kSmallSum ? numbers : 2 * part);
}

// Of a stage's layer in the model's list.
size_t place_of(const LayerSpec& spec, const std::vector<LayerSpec>& layers) {
  const auto is_it = [&](const LayerSpec& l) { return l.kind == spec.kind && l.block == spec.block; };
  return static_cast<size_t>(std::ranges::find_if(layers, is_it) - layers.begin());
}

}  // namespace

PipeShape pipe_shape(const Config& config, const RankShare& share) {
  return {static_cast<int>(config.parallel.pipeline), share.stage, static_cast<int>(share.microbatches),
          static_cast<int>(config.parallel.pieces)};
}

RankLayers::RankLayers(const Config& config, const RankShare& share) {
  const auto layers = layout_of(config.model);
  const auto store = std::make_shared<ParameterStore>(Sharding::layer_multiple(share.data_ranks, share.sharding.zero),
                                                      config.train.groups.rule());
  const auto trains = layers_that_train(config.model, config.train.groups.rule());
  std::vector<const LayerStack*> all;
  for (size_t s = share.stage; s + 1 < share.partition.cuts.size(); s += config.parallel.pipeline) {
    const auto specs = stage_layers(layers, share.partition.cuts[s], share.partition.cuts[s + 1]);
    pieces.push_back(std::make_unique<LayerStack>(config.model, specs, store));
    all.push_back(pieces.back().get());
    std::vector<bool>& back = goes_back.emplace_back();
    std::vector<size_t>& own = places.emplace_back();
    for (const LayerSpec& spec : specs) {
      const size_t i = place_of(spec, layers);
      own.push_back(i);
      back.push_back(trains[i] || (spec.fields.reads & trained_below(layers, trains, i)));
    }
  }
  buckets = buckets_of(all, share.sharding.bucket_bytes);
  trained = store->flat_size();
  parameters = store->count();
}

DataTraffic data_traffic(const RankLayers& rank, const std::vector<Compute>& plan, int64_t microbatches,
                         const Sharding& sharding, int data_ranks) {
  DataTraffic t;
  t.passes.resize(plan.size());
  if (data_ranks == 1) return t;
  std::vector<int64_t> released(rank.pieces.size());
  Window window(rank.buckets);
  for (size_t i = 0; i < plan.size(); ++i) {
    const Compute& c = plan[i];
    const std::vector<LayerRange>& ranges = rank.pieces[c.piece]->ranges();
    for (size_t l = 0; l < ranges.size() && sharding.zero == 3; ++l) {
      const size_t at = c.is_forward() ? l : ranges.size() - 1 - l;
      const LayerRange& layer = ranges[at];
      if (layer.size() > 0 && c.pass != Compute::Pass::backward_weight &&
          (c.is_forward() || rank.goes_back[c.piece][at]))
        window.use(bucket_of(rank.buckets, layer), t.passes[i].gathers);
    }
    if (!c.releases()) continue;
    const bool last = ++released[c.piece] == microbatches;
    for (size_t b = rank.buckets.size(); b-- > 0;)
      if (rank.buckets[b].piece == static_cast<size_t>(c.piece) && !rank.buckets[b].shared &&
          rank.buckets[b].layers > 0 && (sharding.zero >= 2 || last))
        t.passes[i].reductions.push_back(b);
  }
  for (size_t b = 0; b < rank.buckets.size(); ++b) {
    if (rank.buckets[b].layers == 0) continue;
    if (rank.buckets[b].shared) t.reductions_at_end.push_back(b);
    if (sharding.zero == 0)
      t.gradient_gathers.push_back(b);
    else if (sharding.zero < 3 || rank.buckets[b].shared)
      t.gathers_after_update.push_back(b);
  }
  return t;
}

namespace {

double bytes_of_parts(FlatRange range, int data_ranks, DType dtype) {
  const int64_t part = range.size() / data_ranks;
  return static_cast<double>(size_of(dtype)) * static_cast<double>(part * (data_ranks - 1));
}

}  // namespace

double bytes_to_share(const BucketRange& b, int data_ranks) {
  return bytes_of_parts(b.range, data_ranks, DType::f32);
}

double bytes_to_gather(const BucketRange& b, int zero, int data_ranks, DType dtype) {
  const bool with_frozen = zero == 3 && !b.shared;
  return bytes_of_parts(b.range, data_ranks, dtype) + (with_frozen ? bytes_of_parts(b.frozen, data_ranks, dtype) : 0);
}

std::vector<BoundaryShape> gradients_of(const Config& config, const Partition& partition) {
  return gradient_shapes(config.model, partition, config.train.micro_bsz, config.train.computes_in(),
                         layers_that_train(config.model, config.train.groups.rule()));
}

double bytes_of(const BoundaryShape& cut) {
  Arena nowhere(kMeta);
  double bytes = 0;
  for (const Tensor& t : tensors_of(cut.empty(nowhere))) bytes += static_cast<double>(t.bytes());
  return bytes;
}

int expanding_ranks(const Config& config, const Partition& partition) {
  const auto layers = layout_of(config.model);
  int count = 0;
  for (int64_t r = 0; r < config.parallel.pipeline; ++r) {
    bool any = false;
    for (size_t s = r; s + 1 < partition.cuts.size(); s += config.parallel.pipeline)
      for (const LayerSpec& spec : stage_layers(layers, partition.cuts[s], partition.cuts[s + 1]))
        any = any || spec.kind == LayerSpec::Kind::key_expand;
    count += any ? 1 : 0;
  }
  return count;
}

SentBytes sent_bytes(const Config& config, const RankShare& share) {
  SentBytes sent;
  const RankLayers rank(config, share);
  const DType dtype = config.train.computes_in();
  const auto cuts = boundary_shapes(config.model, share.partition, config.train.micro_bsz, dtype),
             gradients = gradients_of(config, share.partition);
  for (size_t s = share.stage; s + 1 < cuts.size() && config.parallel.pipeline > 1; s += config.parallel.pipeline)
    sent.pipeline += static_cast<double>(share.microbatches) * (bytes_of(gradients[s]) + bytes_of(cuts[s + 1]));
  const int d = share.data_ranks, expanding = expanding_ranks(config, share.partition);
  for (const BucketRange& b : rank.buckets)
    if (b.shared && expanding > 1 && b.layers > 0) sent.pipeline += bytes_to_all_reduce(b.range.size() / d, expanding);
  const auto plan = find_schedule(config.parallel.schedule).plan(pipe_shape(config, share));
  const DataTraffic t = data_traffic(rank, plan, share.microbatches, share.sharding, d);
  const auto share_out = [&](const std::vector<size_t>& buckets) {
    for (const size_t b : buckets) sent.data += bytes_to_share(rank.buckets[b], d);
  };
  const auto gather = [&](const std::vector<size_t>& buckets) {
    for (const size_t b : buckets) sent.data += bytes_to_gather(rank.buckets[b], share.sharding.zero, d, dtype);
  };
  for (const PassTraffic& p : t.passes) gather(p.gathers), share_out(p.reductions);
  share_out(t.reductions_at_end), share_out(t.gradient_gathers), gather(t.gathers_after_update);
  return sent;
}

std::vector<SentBytes> sent_by_stages(const Config& config, RankShare share) {
  std::vector<SentBytes> sent;
  for (share.stage = 0; share.stage < config.parallel.pipeline; ++share.stage)
    sent.push_back(sent_bytes(config, share));
  return sent;
}

double bytes_between_nodes(const Placement& p, const std::vector<SentBytes>& sent, int64_t pieces) {
  double bytes = 0;
  for (int s = 0; s < p.pipeline; ++s) {
    // To all data ranks alike.
    std::map<int, int> ranks;  // of each node
    for (int r = 0; r < p.data; ++r) ++ranks[p.node(s, r)];
    for (const auto& [node, here] : ranks) bytes += sent[s].data * here * (p.data - here) / std::max(1, p.data - 1);
    // To the stages above and below, about as much; with several pieces the last and the first are neighbours too.
    std::vector<int> others;
    for (const int other : {s - 1, s + 1})
      if (pieces > 1 || (0 <= other && other < p.pipeline)) others.push_back((other + p.pipeline) % p.pipeline);
    for (const int other : others)
      for (int r = 0; r < p.data; ++r)
        if (p.node(s, r) != p.node(other, r)) bytes += sent[s].pipeline / static_cast<double>(others.size());
  }
  return bytes;
}

Placement best_placement(const std::vector<int>& nodes, const std::vector<SentBytes>& sent, int data, int64_t pieces) {
  const int pipeline = static_cast<int>(sent.size());
  const Placement near_data = place_ranks(nodes, pipeline, data, Near::data),
                  near_pipe = place_ranks(nodes, pipeline, data, Near::pipe);
  constexpr double kRounding = 1e-9;
  const double bytes = bytes_between_nodes(near_data, sent, pieces);
  return bytes_between_nodes(near_pipe, sent, pieces) < (1 - kRounding) * bytes ? near_pipe : near_data;
}

}  // namespace gf
