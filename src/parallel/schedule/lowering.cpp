// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/lowering.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "parallel/schedule/pass_table.h"

namespace gf {
namespace {

using Pass = Compute::Pass;

// When each pass of each rank ends, were messages free: forward passes take 1, and so do both halves of a backward one.
class IdealTimes {
 public:
  IdealTimes(const std::string& name, const std::vector<std::vector<Compute>>& plans, int pieces, int microbatches)
      : plans_(plans),
        pieces_(pieces),
        ends_(plans.size()),
        at_(plans.size()),
        done_(static_cast<int>(plans.size()), pieces, microbatches, -1),
        waiting_(static_cast<int>(plans.size()), pieces, microbatches, -1) {
    const int ranks = static_cast<int>(plans.size());
    std::vector<int> ready;
    for (int r = 0; r < ranks; ++r) ready.push_back(r);
    while (!ready.empty()) {
      const int rank = ready.back();
      ready.pop_back();
      while (advance(rank, ready)) {}
    }
    for (int r = 0; r < ranks; ++r)
      if (at_[r] < plans_[r].size())
        refuse(cat("parallel.schedule ", name, " cannot run: rank ", r, " of ", ranks, " waits for ever before ",
                   name_of(plans_[r][at_[r]])),
               "another --parallel.schedule, or more microbatches (--train.accumulate_grad_batches)");
  }
  int64_t end(int rank, size_t i) const { return ends_[rank][i]; }

 private:
  // Runs the next pass of a rank, where what it needs is there.
  bool advance(int rank, std::vector<int>& ready) {
    if (at_[rank] == plans_[rank].size()) return false;
    const Compute& c = plans_[rank][at_[rank]];
    int64_t begin = ends_[rank].empty() ? 0 : ends_[rank].back();
    const Source source = source_of(c, rank, static_cast<int>(plans_.size()), pieces_);
    if (source.rank >= 0) {
      const int64_t done = done_.at(source.rank, source.pass);
      if (done < 0) {
        waiting_.at(source.rank, source.pass) = rank;
        return false;
      }
      begin = std::max(begin, done);
    }
    ends_[rank].push_back(begin + (c.pass == Pass::backward ? 2 : 1));
    ++at_[rank];
    if (c.pass != Pass::backward_weight) {
      done_.at(rank, c) = ends_[rank].back();
      if (const int waiting = waiting_.at(rank, c); waiting >= 0) ready.push_back(waiting);
    }
    return true;
  }

  const std::vector<std::vector<Compute>>& plans_;
  int pieces_;
  std::vector<std::vector<int64_t>> ends_;
  std::vector<size_t> at_;
  PassTable<int64_t> done_;  // below 0: not yet
  PassTable<int> waiting_;   // the rank that does; below 0: none
};

// A transfer of one rank, with its place in the order of all messages.
struct Placed {
  int64_t time;  // at which its producer ends
  int from, to;
  Transfer transfer;
  size_t pass;  // of this rank's plan: that gives it, or takes it
};

bool before(const Placed& a, const Placed& b) {
  const auto order = [](const Placed& p) { return std::tuple(p.time, std::min(p.from, p.to), p.from); };
  return order(a) < order(b);
}

// Before each pass: all that ideal ranks would have sent by its end, as far as it has been produced. So no rank waits
// for another to look for what it is sent.
Program program_of(const std::vector<Compute>& plan, const IdealTimes& times, int rank, std::vector<Placed> transfers) {
  std::sort(transfers.begin(), transfers.end(), before);
  Program program;
  size_t begun = 0;
  const auto begin_until = [&](size_t end, size_t pass) {
    Step step{};
    for (; begun < end && !(transfers[begun].transfer.send && transfers[begun].pass >= pass); ++begun)
      step.exchange.push_back(transfers[begun].transfer);
    if (!step.exchange.empty()) program.push_back(std::move(step));
  };
  for (size_t pass = 0; pass < plan.size(); ++pass) {
    size_t end = begun;
    while (end < transfers.size() && transfers[end].time <= times.end(rank, pass)) ++end;
    begin_until(end, pass);
    program.push_back({plan[pass], {}});
  }
  begin_until(transfers.size(), plan.size());
  return program;
}

}  // namespace

Source source_of(const Compute& c, int rank, int ranks, int pieces) {
  const int stage = c.piece * ranks + rank, last = ranks * pieces - 1;
  if (c.pass == Pass::backward_weight) return {};
  const int from = c.is_forward() ? stage - 1 : stage + 1;
  if (from < 0 || from > last) return {};
  return {from % ranks, {c.pass, c.microbatch, from / ranks}};
}

std::vector<Program> lower(const ScheduleEntry& schedule, int ranks, int microbatches, int pieces) {
  std::vector<std::vector<Compute>> plans;
  for (int r = 0; r < ranks; ++r) plans.push_back(schedule.plan({ranks, r, microbatches, pieces}));
  const IdealTimes times(std::string(schedule.name), plans, pieces, microbatches);
  struct Made {
    int64_t time;
    size_t pass;
  };
  PassTable<Made> made(ranks, pieces, microbatches, Made{0, 0});
  for (int r = 0; r < ranks; ++r)
    for (size_t i = 0; i < plans[r].size(); ++i)
      if (plans[r][i].pass != Pass::backward_weight) made.at(r, plans[r][i]) = {times.end(r, i), i};
  std::vector<std::vector<Placed>> transfers(ranks);
  for (int r = 0; r < ranks; ++r) {
    for (size_t i = 0; i < plans[r].size(); ++i) {
      const Source source = source_of(plans[r][i], r, ranks, pieces);
      if (source.rank < 0 || source.rank == r) continue;
      const Made& m = made.at(source.rank, source.pass);
      const Compute& giver = plans[source.rank][m.pass];
      transfers[r].push_back({m.time, source.rank, r, {false, source.rank, plans[r][i]}, i});
      transfers[source.rank].push_back({m.time, source.rank, r, {true, r, giver}, m.pass});
    }
  }
  std::vector<Program> programs;
  for (int r = 0; r < ranks; ++r) programs.push_back(program_of(plans[r], times, r, std::move(transfers[r])));
  return programs;
}

}  // namespace gf
