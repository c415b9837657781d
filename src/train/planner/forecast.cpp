// SPDX-License-Identifier: Apache-2.0
#include "train/planner/forecast.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "parallel/rank_model.h"
#include "train/planner/layer_times.h"
#include "train/planner/links.h"

namespace gf {
namespace {

constexpr double kNumber = sizeof(float);  // of all but values(), which layers compute with

// Of one rank, what its passes do beside computing.
struct RankWork {
  explicit RankWork(const Config& config, const RankShare& share, const std::vector<Compute>& plan)
      : layers(config, share),
        traffic(data_traffic(layers, plan, share.microbatches, share.sharding, share.data_ranks)) {}
  RankLayers layers;
  DataTraffic traffic;
  std::vector<PassSeconds> pieces;
  std::vector<double> passes;  // of the plan, in seconds
  std::vector<double> waits;   // of these, for a reduction to end so that the next may begin
};

class StepModel {
 public:
  StepModel(const Config& config, const RankShare& share, const LayerTimes& times, const Hardware* hardware, Near near)
      : config_(config),
        share_(share),
        hardware_(hardware),
        ranks_(static_cast<int>(config.parallel.pipeline)),
        num_pieces_(static_cast<int>(config.parallel.pieces)),
        cuts_(boundary_shapes(config.model, share.partition, config.train.micro_bsz, config.train.computes_in())),
        gradient_cuts_(gradients_of(config, share.partition)),
        layer_times_(trained_times(config, times)) {
    if (hardware) links_.emplace(*hardware, ranks_, share.data_ranks, near);
    for (int r = 0; r < ranks_; ++r) add_rank(r);
  }

  const RankWork& rank(int r) const { return work_[r]; }

  Simulation simulated() const {
    const auto programs = lower(find_schedule(config_.parallel.schedule), ranks_, microbatches(), num_pieces_);
    PassCosts costs;
    costs.pass = [&](int r, const Compute& c) { return work_[r].passes[index_[r][place(c)]]; };
    if (links_)
      costs.message = [&](int r, const Compute& c) {
        const int stage = c.piece * ranks_ + r, to = (r + (c.is_forward() ? 1 : ranks_ - 1)) % ranks_;
        return links_->message(r, to, bytes_of(c.is_forward() ? cuts_[stage + 1] : gradient_cuts_[stage]));
      };
    return simulate(programs, num_pieces_, costs);
  }

  // From the beginning of the passes until the gradients of the last rank are summed.
  double passes_and_reductions(const Simulation& s) const {
    double end = 0;
    for (int r = 0; r < ranks_; ++r) end = std::max(end, gradients_there(r, s.passes[r]));
    return end;
  }

  // By how much the passes begin later than they would, were all parameters there.
  double gather() const {
    double latest = 0, below = 0;  // below: what the first microbatch takes to come to this rank
    for (int r = 0; r < ranks_; ++r) {
      latest = std::max(latest, delay_of_first_pass(r) - below);
      below += work_[r].pieces[0].forward;
    }
    return latest;
  }

  double update() const {
    if (!hardware_) return 0;
    double longest = 0;
    const int zero = share_.data_ranks > 1 ? share_.sharding.zero : 0;
    for (const RankWork& w : work_) {
      const auto numbers = static_cast<double>(w.layers.trained), d = static_cast<double>(share_.data_ranks);
      double seconds = (zero > 0 ? numbers / d : numbers) * seconds_of_update();
      if (zero == 1) seconds += kNumber * numbers * (1 - 1 / d) / memory_bandwidth();  // the others' gradients to zero
      longest = std::max(longest, seconds);
    }
    // The norm, and before it the loss.
    const double names = 8.0 * static_cast<double>(parameter_names(config_.model).size());
    return longest + 2 * links_->among_all(names) + 2 * links_->among_all(0);
  }

 private:
  int microbatches() const { return static_cast<int>(share_.microbatches); }
  size_t place(const Compute& c) const {
    return (static_cast<size_t>(c.pass) * num_pieces_ + c.piece) * microbatches() + c.microbatch;
  }
  DType values() const { return config_.train.computes_in(); }
  double memory_bandwidth() const { return hardware_->rank.memory_bandwidth; }
  double fresh_bandwidth() const {
    return hardware_->rank.fresh_bandwidth > 0 ? hardware_->rank.fresh_bandwidth : memory_bandwidth();
  }
  // Norm and AdamW read or write a parameter's value, gradient and moments nine times, and write its bf16 value.
  double seconds_of_update() const {
    if (hardware_->measured && !config_.train.on_gpu()) return hardware_->measured->update;
    const double rounded = values() == DType::bf16 ? static_cast<double>(size_of(values())) : 0;
    return (9 * kNumber + rounded) / memory_bandwidth();
  }

  // On their way; nothing where there is no hardware.
  double link_seconds(int r, const BucketRange& b) const {
    if (!links_ || share_.data_ranks == 1) return 0;
    return links_->among_data_ranks(r, bytes_to_share(b, share_.data_ranks));
  }
  double gather_seconds(int r, const BucketRange& b) const {
    if (!links_ || share_.data_ranks == 1) return 0;
    return links_->among_data_ranks(r, bytes_to_gather(b, share_.sharding.zero, share_.data_ranks, values()));
  }
  // The sum of all ranks' parts. Under zero 2 and 3 the parts of others go, and come anew twice: what adds to them
  // reads zeros first, and then writes.
  double work_of_reduction(const BucketRange& b) const {
    if (!links_ || share_.data_ranks == 1) return 0;
    const double bytes = kNumber * static_cast<double>(b.range.size()), d = static_cast<double>(share_.data_ranks);
    const double sum = bytes * (2 + 1 / d) / memory_bandwidth();
    return sum + (share_.sharding.zero >= 2 ? 2 * bytes * (1 - 1 / d) / fresh_bandwidth() : 0);
  }
  double work_of_gathering(const BucketRange& b) const {
    if (!links_ || share_.data_ranks == 1 || share_.sharding.zero < 3 || b.shared) return 0;
    const double d = static_cast<double>(share_.data_ranks);
    const auto value = static_cast<double>(size_of(values()));
    return value * static_cast<double>(b.range.size() + b.frozen.size()) * (1 - 1 / d) / fresh_bandwidth();
  }
  bool overlaps(int r) const { return !links_ || links_->data_overlaps(r); }

  void add_rank(int r) {
    RankShare own = share_;
    own.stage = r;
    const std::vector<Compute> plan = find_schedule(config_.parallel.schedule).plan(pipe_shape(config_, own));
    RankWork& w = work_.emplace_back(config_, own, plan);
    for (const std::vector<size_t>& places : w.layers.places) {
      PassSeconds& sum = w.pieces.emplace_back();
      for (const size_t place : places) sum += layer_times_[place];
    }
    index_.emplace_back(size_t{4} * num_pieces_ * microbatches());
    std::vector<double> on_their_way(num_pieces_);  // the gradients of the microbatch before, of each piece
    for (size_t i = 0; i < plan.size(); ++i) {
      index_[r][place(plan[i])] = i;
      const double seconds = seconds_of_pass(r, w, plan[i], w.traffic.passes[i], on_their_way[plan[i].piece]);
      // Under zero 2 and 3 what goes on during a pass is in its seconds already.
      const bool waits = overlaps(r) && share_.sharding.zero < 2;
      w.waits.push_back(waits ? reductions_of(r, i, 0, seconds, 0).pass_end - seconds : 0);
      w.passes.push_back(seconds + w.waits.back());
    }
  }

  // What the ranks move themselves adds to computing. What moves by itself goes on beside it: gradients while the next
  // microbatch makes its own, which must wait for them; those of the last one go on into what comes after, see
  // gradients_there().
  double seconds_of_pass(int r, const RankWork& w, const Compute& c, const PassTraffic& t, double& on_their_way) const {
    const PassSeconds& p = w.pieces[c.piece];
    double seconds = 0, moved = 0, reduced = 0;
    switch (c.pass) {
      case Compute::Pass::forward:
        seconds = p.forward;
        break;
      case Compute::Pass::backward:
        seconds = p.backward();
        break;
      case Compute::Pass::backward_input:
        seconds = p.backward_input;
        break;
      case Compute::Pass::backward_weight:
        seconds = p.backward_weight;
        break;
    }
    for (const size_t b : t.gathers) {
      moved += gather_seconds(r, w.layers.buckets[b]);
      seconds += work_of_gathering(w.layers.buckets[b]);
    }
    for (const size_t b : t.reductions) {
      reduced += link_seconds(r, w.layers.buckets[b]);
      seconds += work_of_reduction(w.layers.buckets[b]);
    }
    if (!overlaps(r)) return seconds + moved + reduced;
    if (c.releases()) moved += std::exchange(on_their_way, reduced);
    return std::max(seconds, moved);
  }

  // Each begins when the layers of its bucket are done, and the pass only goes on when the one before has ended.
  // `free`: when those of earlier passes have.
  struct Reductions {
    double pass_end, end;
  };
  Reductions reductions_of(int r, size_t pass, double begin, double seconds, double free) const {
    const std::vector<size_t>& reductions = work_[r].traffic.passes[pass].reductions;
    if (reductions.empty()) return {begin + seconds, free};
    double now = begin;
    for (const size_t b : reductions) {
      now = std::max(now + seconds / static_cast<double>(reductions.size()), free);
      free = now + link_seconds(r, work_[r].layers.buckets[b]);
    }
    return {now, free};
  }

  // Those of the rank's end follow those of its passes.
  double gradients_there(int r, const std::vector<PassSpan>& spans) const {
    const RankWork& w = work_[r];
    double passes_end = spans.empty() ? 0 : spans.back().end, free = 0;
    for (size_t i = 0; i < spans.size() && overlaps(r); ++i)
      free = reductions_of(r, i, spans[i].begin, spans[i].end - spans[i].begin - w.waits[i], free).end;
    double end = std::max(passes_end, free);
    const int expanding = expanding_ranks(config_, share_.partition);
    for (const size_t b : w.traffic.reductions_at_end)
      end += link_seconds(r, w.layers.buckets[b]) + work_of_reduction(w.layers.buckets[b]);
    for (const BucketRange& b : w.layers.buckets)
      if (b.shared && expanding > 1 && links_)
        end +=
            2 * links_->message(r, (r + 1) % ranks_, kNumber * static_cast<double>(b.range.size()) / share_.data_ranks);
    for (const size_t b : w.traffic.gradient_gathers) end += link_seconds(r, w.layers.buckets[b]);
    return end;
  }

  // New parameters come one bucket after the other, the lowest layers' first; a layer waits for its own.
  double delay_of_first_pass(int r) const {
    const RankWork& w = work_[r];
    double there = 0, now = 0;
    for (const size_t b : w.traffic.gathers_after_update) {
      const BucketRange& bucket = w.layers.buckets[b];
      there += gather_seconds(r, bucket);
      if (bucket.piece > 0 && overlaps(r)) break;  // needed much later
      const auto share = static_cast<double>(bucket.range.size()) / static_cast<double>(w.layers.trained);
      now = std::max(now, there) + share * w.pieces[0].forward;
    }
    return overlaps(r) ? std::max(0.0, now - w.pieces[0].forward) : there;
  }

  const Config& config_;
  const RankShare& share_;
  const Hardware* hardware_;
  int ranks_, num_pieces_;
  std::vector<BoundaryShape> cuts_, gradient_cuts_;
  std::vector<PassSeconds> layer_times_;  // of layout_of()
  std::optional<Links> links_;
  std::vector<RankWork> work_;
  std::vector<std::vector<size_t>> index_;  // of each rank: the place in its plan of a pass
};

}  // namespace

void LayoutForecast::fit(size_t room) {
  for (RankForecast& r : ranks) r.memory.fit(room);
}

double LayoutForecast::fill() const {
  double busiest = 0;
  for (const auto& spans : simulation.passes) {
    double busy = 0;
    for (const PassSpan& p : spans) busy += p.end - p.begin;
    busiest = std::max(busiest, busy);
  }
  return simulation.time > 0 ? 1 - busiest / simulation.time : 0;
}

const RankForecast& LayoutForecast::neediest() const {
  return *std::max_element(ranks.begin(), ranks.end(), [](const RankForecast& a, const RankForecast& b) {
    return a.memory.more() < b.memory.more();
  });
}

SentBytes LayoutForecast::most_sent() const {
  SentBytes most;
  for (const RankForecast& r : ranks)
    most = {std::max(most.pipeline, r.sent.pipeline), std::max(most.data, r.sent.data)};
  return most;
}

int64_t LayoutForecast::most_parameters() const {
  int64_t most = 0;
  for (const RankForecast& r : ranks) most = std::max(most, r.parameters);
  return most;
}

LayoutForecast forecast_layout(const Config& config, RankShare share, const LayerTimes& times, StageNeeds& needs,
                               const Hardware* hardware) {
  const std::vector<SentBytes> sent = sent_by_stages(config, share);
  LayoutForecast f;
  Near near = Near::data;
  if (hardware) {
    std::vector<int> nodes;
    for (int64_t r = 0; r < config.parallel.pipeline * share.data_ranks; ++r)
      nodes.push_back(static_cast<int>(r / hardware->ranks_per_node));
    const Placement placement = best_placement(nodes, sent, share.data_ranks, config.parallel.pieces);
    near = placement.near;
    if (!placement.one_node()) f.placement = placement.text();
  }
  const StepModel model(config, share, times, hardware, near);
  for (share.stage = 0; share.stage < config.parallel.pipeline; ++share.stage) {
    const RankWork& w = model.rank(share.stage);
    RankForecast& rank = f.ranks.emplace_back();
    rank.parameters = w.layers.parameters;
    rank.memory = needs.forecast(config, share);
    rank.sent = sent[share.stage];
    for (const PassSeconds& p : w.pieces) rank.pass += p;
  }
  f.simulation = model.simulated();
  f.step = {model.gather(), model.passes_and_reductions(f.simulation), model.update()};
  const double tokens = static_cast<double>(config.train.global_batch() * config.model.ctx_len);
  if (hardware) f.tokens_per_s = tokens / f.step.all();
  return f;
}

}  // namespace gf
