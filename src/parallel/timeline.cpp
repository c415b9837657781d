// SPDX-License-Identifier: Apache-2.0
#include "parallel/timeline.h"

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>

#include "base/error.h"
#include "parallel/traced_work.h"

namespace gf {
namespace {

// A set of moments, as intervals in their order that do not touch.
using Moments = std::vector<Interval>;

Moments united(Moments all) {
  std::ranges::sort(all, {}, &Interval::begin);
  Moments out;
  for (const Interval& i : all) {
    if (i.end <= i.begin) continue;
    if (!out.empty() && i.begin <= out.back().end)
      out.back().end = std::max(out.back().end, i.end);
    else
      out.push_back(i);
  }
  return out;
}

Moments common(const Moments& a, const Moments& b) {
  Moments out;
  if (a.empty()) return out;
  // A short one against many others should not take as long as these are many.
  const auto first = std::ranges::partition_point(b, [&](const Interval& i) { return i.end <= a[0].begin; });
  for (size_t i = 0, j = first - b.begin(); i < a.size() && j < b.size() && b[j].begin < a.back().end;
       a[i].end < b[j].end ? ++i : ++j) {
    const Interval both{std::max(a[i].begin, b[j].begin), std::min(a[i].end, b[j].end)};
    if (both.begin < both.end) out.push_back(both);
  }
  return out;
}

double length(const Moments& all) {
  double sum = 0;
  for (const Interval& i : all) sum += i.length();
  return sum;
}

// Of `all`, what is outside of `gone`.
double length_without(const Moments& all, const Moments& gone) {
  return length(all) - length(common(all, gone));
}

Moments waits_of(const Timeline& t) {
  Moments all;
  for (const auto& w : t.waits) all.push_back(w.at);
  return united(std::move(all));
}

bool computes(const std::string& phase) {
  return phase == "optimizer" || phase == "validation";
}

// The step that a moment is in, or the number of steps.
size_t step_of(const Timeline& t, double moment) {
  const auto after = std::ranges::upper_bound(t.steps, moment, {}, &Interval::begin);
  if (after == t.steps.begin() || std::prev(after)->end <= moment) return t.steps.size();
  return std::prev(after) - t.steps.begin();
}

std::vector<std::vector<PassSpan>> passes_of_steps(const Timeline& t) {
  std::vector<std::vector<PassSpan>> all(t.steps.size());
  for (const PassSpan& p : t.passes)
    if (const size_t step = step_of(t, p.begin); step < all.size()) all[step].push_back(p);
  return all;
}

class Summary {
 public:
  explicit Summary(const TracedRun& run) : run_(run) { out_.ranks.resize(run.timelines.size()); }

  TraceSummary take() {
    const auto transfers = under_way(run_);
    for (size_t r = 0; r < run_.timelines.size(); ++r) add_rank(static_cast<int>(r), transfers[r]);
    const size_t steps = run_.timelines[0].steps.size();
    for (size_t step = 0; step < steps; ++step) add_step(step);
    for (const RankTimes& t : out_.ranks) {
      RankTimes& all = out_.all;
      for (const auto field : {&RankTimes::steps, &RankTimes::computing, &RankTimes::waiting, &RankTimes::pipeline,
                               &RankTimes::passes, &RankTimes::communication, &RankTimes::hidden})
        all.*field += t.*field;
    }
    std::ranges::stable_sort(out_.waits, std::greater(), &TraceSummary::Wait::seconds);
    add_formulas();
    return std::move(out_);
  }

 private:
  void add_rank(int rank, const std::vector<Interval>& transfers) {
    const Timeline& t = run_.timelines[rank];
    RankTimes& times = out_.ranks[rank];
    Moments working;
    for (const PassSpan& p : t.passes) working.push_back({p.begin, p.end});
    for (const auto& p : t.phases)
      if (computes(p.name)) working.push_back(p.at);
    const Moments steps = united(t.steps), waits = common(waits_of(t), steps);
    waits_.push_back(waits);
    working = common(united(std::move(working)), steps);
    const Moments moving = common(united(transfers), steps), both = common(moving, working);
    times.steps = length(steps);
    times.waiting = length(waits);
    times.computing = length_without(working, waits);
    times.communication = length(moving);
    times.hidden = length_without(both, waits);
    passes_.push_back(passes_of_steps(t));
    add_waits(rank);
  }

  void add_waits(int rank) {
    const Timeline& t = run_.timelines[rank];
    std::map<std::string, TraceSummary::Wait> by_name;
    for (const auto& w : t.waits) {
      if (step_of(t, w.at.begin) == t.steps.size()) continue;
      const auto after = std::ranges::upper_bound(t.phases, w.at.begin, {}, [](const auto& p) { return p.at.begin; });
      const bool within = after != t.phases.begin() && w.at.begin < std::prev(after)->at.end;
      const std::string what = within ? cat(std::prev(after)->name, ": ", w.name) : w.name;
      auto& sum = by_name.try_emplace(what, TraceSummary::Wait{rank, what, 0, 0}).first->second;
      ++sum.count;
      sum.seconds += w.at.length();
    }
    for (auto& [name, wait] : by_name) out_.waits.push_back(std::move(wait));
  }

  // The part of a pass in which the rank did not wait.
  double cost(int rank, const PassSpan& p) const { return length_without({{p.begin, p.end}}, waits_[rank]); }

  void add_step(size_t step) {
    double passes = 0, time = 0;
    for (int d = 0; d < run_.data; ++d) {
      Interval part{1e300, -1e300};
      for (int s = 0; s < run_.pipeline; ++s) {
        const auto& all = passes_[s * run_.data + d][step];
        part = {std::min(part.begin, all.front().begin), std::max(part.end, all.back().end)};
      }
      for (int s = 0; s < run_.pipeline; ++s) {
        const int rank = s * run_.data + d;
        double own = 0;
        for (const PassSpan& p : passes_[rank][step]) {
          const double seconds = cost(rank, p);
          auto& [sum, count] = costs_[{s, p.pass.pass, p.pass.piece}];
          sum += seconds;
          ++count;
          own += seconds;
        }
        out_.ranks[rank].pipeline += part.length();
        out_.ranks[rank].passes += own;
        passes += own;
        time += part.length();
      }
    }
    out_.bubbles.push_back(time > 0 ? 1 - passes / time : 0);
  }

  void add_formulas() {
    const auto programs = lower(find_schedule(run_.schedule), run_.pipeline, run_.microbatches, run_.pieces);
    out_.formula = simulate(programs, run_.pieces, unit_costs()).bubble();
    const auto mean = [&](int stage, const Compute& c) {
      const auto& [sum, count] = costs_.at({stage, c.pass, c.piece});
      return sum / count;
    };
    out_.formula_of_passes = simulate(programs, run_.pieces, {mean}).bubble();
  }

  const TracedRun& run_;
  TraceSummary out_;
  std::vector<Moments> waits_;                                                   // of each rank
  std::vector<std::vector<std::vector<PassSpan>>> passes_;                       // of each rank and step
  std::map<std::tuple<int, Compute::Pass, int>, std::pair<double, int>> costs_;  // stage, pass, piece: sum and count
};

}  // namespace

void check(const TracedRun& run) {
  const auto size = [](const auto& list) { return static_cast<int64_t>(list.size()); };
  const int64_t ranks = int64_t{run.pipeline} * run.data;
  if (run.pipeline < 1 || run.data < 1 || run.pieces < 1 || run.microbatches < 1 || size(run.timelines) != ranks)
    refuse(cat("pipeline ", run.pipeline, " x data ", run.data, " with ", run.pieces, " pieces and ", run.microbatches,
               " microbatches is not the layout of ", run.timelines.size(), " ranks"));
  const ScheduleEntry& schedule = find_schedule(run.schedule);
  if (run.pieces > 1 && !schedule.takes_pieces) refuse(cat(run.schedule, " does not run ", run.pieces, " pieces"));
  const size_t steps = run.timelines[0].steps.size();
  for (int r = 0; r < ranks; ++r) {
    const Timeline& t = run.timelines[r];
    if (steps == 0 || t.steps.size() != steps)
      refuse(cat("rank ", r, " has ", t.steps.size(), " steps and rank 0 has ", steps));
    // Before a plan is made, which takes memory by what the file says.
    const int64_t least = 2 * int64_t{run.microbatches};
    if (size(t.passes) / least < run.pieces)
      refuse(cat("rank ", r, " has ", t.passes.size(), " passes of ", run.microbatches, " microbatches in ", run.pieces,
                 " pieces"));
    const auto plan = schedule.plan({run.pipeline, run.stage(r), run.microbatches, run.pieces});
    const auto passes = passes_of_steps(t);
    for (size_t step = 0; step < steps; ++step) {
      const auto same = [](const PassSpan& p, const Compute& c) { return p.pass == c; };
      if (!std::ranges::equal(passes[step], plan, same))
        refuse(cat("the ", passes[step].size(), " passes of rank ", r, " in step ",
                   run.first_step + static_cast<int64_t>(step), " are not the ", plan.size(), " of ", run.schedule));
    }
  }
}

std::vector<std::vector<Interval>> under_way(const TracedRun& run) {
  struct Place {
    int rank;
    size_t transfer;
  };
  // Group, name, and number in it; for messages: sender, receiver.
  using Key = std::tuple<std::string, int, int, int>;
  std::map<Key, std::vector<Place>> together;
  std::vector<std::vector<Interval>> all;
  for (int rank = 0; rank < std::ssize(run.timelines); ++rank) {
    const auto& transfers = run.timelines[rank].transfers;
    std::map<Key, int> numbers;
    all.emplace_back();
    for (size_t i = 0; i < transfers.size(); ++i) {
      const auto& t = transfers[i];
      all.back().push_back(t.at);
      const int peer = t.peer * run.data + run.data_rank(rank);
      Key key{t.name, run.stage(rank), -1, 0};  // those of one stage
      if (t.name == kReduceBetweenStages) key = {t.name, -1, run.data_rank(rank), 0};
      if (t.name == kSend) key = {"message", rank, peer, 0};
      if (t.name == kReceive) key = {"message", peer, rank, 0};
      std::get<3>(key) = numbers[key]++;
      together[key].push_back({rank, i});
    }
  }
  for (const auto& [key, places] : together) {
    double begun = -1e300;
    for (const Place& p : places) begun = std::max(begun, all[p.rank][p.transfer].begin);
    for (const Place& p : places) {
      Interval& at = all[p.rank][p.transfer];
      at.begin = std::min(begun, at.end);
    }
  }
  return all;
}

TraceSummary summarize(const TracedRun& run) {
  return Summary(run).take();
}

}  // namespace gf
