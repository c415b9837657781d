// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/simulation.h"

#include <algorithm>
#include <deque>
#include <limits>

#include "base/error.h"
#include "base/human.h"
#include "parallel/schedule/pass_table.h"

namespace gf {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// One message, seen from both sides.
struct Message {
  double sent = kNever, awaited = kNever;  // when each side's exchange reached the head of its rank's queue
  double arrived = kNever;
};

// A rank works through its program; its exchanges queue up beside it.
struct Rank {
  const Program* program;
  size_t at = 0;  // next step
  double now = 0, busy = 0;
  std::deque<std::pair<size_t, double>> begun;  // exchanges: their step, and when the program came to it
  double queue_free = 0;                        // when the exchange at the head may start
  bool head_started = false;
  int live = 0, peak = 0;
  std::vector<PassSpan> passes;
};

int microbatches_of(const std::vector<Program>& programs) {
  int last = -1;
  for (const Program& program : programs)
    for (const Step& step : program)
      if (step.exchange.empty()) last = std::max(last, step.compute.microbatch);
  return last + 1;
}

class Run {
 public:
  Run(const std::vector<Program>& programs, int pieces, const PassCosts& costs)
      : pieces_(pieces),
        costs_(costs),
        ranks_(programs.size()),
        messages_(size(), pieces, microbatches_of(programs), {}),
        own_(size(), pieces, microbatches_of(programs), kNever) {
    for (size_t r = 0; r < programs.size(); ++r) ranks_[r].program = &programs[r];
  }

  Simulation run() {
    // Every change wakes those it may concern: the rank itself and those it exchanges with.
    std::deque<int> awake;
    std::vector<bool> queued(ranks_.size(), true);
    for (size_t r = 0; r < ranks_.size(); ++r) awake.push_back(static_cast<int>(r));
    while (!awake.empty()) {
      const int r = awake.front();
      awake.pop_front();
      queued[r] = false;
      for (const int other : advance(r)) {
        if (queued[other]) continue;
        queued[other] = true;
        awake.push_back(other);
      }
    }
    return result();
  }

 private:
  // What a transfer of this rank carries.
  Source made_by(int rank, const Transfer& t) const {
    return t.send ? Source{rank, t.pass} : source_of(t.pass, rank, size(), pieces_);
  }
  Message& message_of(int rank, const Transfer& t) {
    const Source made = made_by(rank, t);
    return messages_.at(made.rank, made.pass);
  }
  int size() const { return static_cast<int>(ranks_.size()); }

  // As far as the rank gets; -> ranks that may get on because of it.
  std::vector<int> advance(int r) {
    std::vector<int> touched;
    Rank& rank = ranks_[r];
    bool moved = true;
    while (moved) {
      moved = drain(r, touched);
      if (rank.at == rank.program->size()) continue;
      const Step& step = (*rank.program)[rank.at];
      if (!step.exchange.empty()) {
        rank.begun.emplace_back(rank.at++, rank.now);
        moved = true;
      } else if (const double ready = ready_at(r, step.compute); ready < kNever) {
        compute(rank, r, step.compute, ready);
        ++rank.at;
        moved = true;
      }
    }
    return touched;
  }

  void compute(Rank& rank, int r, const Compute& c, double ready) {
    const double begin = std::max(rank.now, ready), cost = costs_.pass(r, c);
    rank.now = begin + cost;
    rank.busy += cost;
    rank.passes.push_back({c, begin, rank.now});
    if (c.is_forward()) rank.peak = std::max(rank.peak, ++rank.live);
    if (c.releases()) --rank.live;
    if (c.pass != Compute::Pass::backward_weight) own_.at(r, c) = rank.now;
  }

  // When what the pass takes is there.
  double ready_at(int r, const Compute& c) {
    const Source source = source_of(c, r, size(), pieces_);
    if (source.rank < 0) return 0;
    return source.rank == r ? own_.at(r, source.pass) : messages_.at(source.rank, source.pass).arrived;
  }

  // Starts the exchange at the head of the queue, and ends those whose messages have all arrived.
  bool drain(int r, std::vector<int>& touched) {
    Rank& rank = ranks_[r];
    bool moved = false;
    while (!rank.begun.empty()) {
      const auto& [step, posted] = rank.begun.front();
      const std::vector<Transfer>& group = (*rank.program)[step].exchange;
      if (!rank.head_started) {
        const double start = std::max(posted, rank.queue_free);
        for (const Transfer& t : group) {
          Message& m = message_of(r, t);
          (t.send ? m.sent : m.awaited) = start;
          const Source made = made_by(r, t);
          if (const double begun = std::max(m.sent, m.awaited); begun < kNever)
            m.arrived = begun + (costs_.message ? costs_.message(made.rank, made.pass) : 0);
          touched.push_back(t.peer);
        }
        rank.head_started = moved = true;
      }
      double end = 0;
      for (const Transfer& t : group) end = std::max(end, message_of(r, t).arrived);
      if (end == kNever) return moved;
      rank.queue_free = end;
      rank.head_started = false;
      rank.begun.pop_front();
      moved = true;
    }
    return moved;
  }

  Simulation result() {
    Simulation s;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      Rank& rank = ranks_[r];
      if (rank.at < rank.program->size() && s.deadlock.empty())
        s.deadlock = cat("rank ", r, " of ", ranks_.size(), " waits for ever before ",
                         name_of((*rank.program)[rank.at].compute));
      if (!rank.begun.empty() && s.deadlock.empty())
        s.deadlock = cat("rank ", r, " of ", ranks_.size(), " has an exchange that never ends");
      s.time = std::max(s.time, rank.now);
      s.busy += rank.busy / static_cast<double>(ranks_.size());
      s.peak_in_flight.push_back(rank.peak);
      s.passes.push_back(std::move(rank.passes));
    }
    return s;
  }

  int pieces_;
  const PassCosts& costs_;
  std::vector<Rank> ranks_;
  PassTable<Message> messages_;  // between ranks, by what gave them
  PassTable<double> own_;        // when a result was there, for passes of the same rank
};

}  // namespace

PassCosts unit_costs() {
  return {[](int, const Compute& c) { return c.pass == Compute::Pass::backward ? 2.0 : 1.0; }};
}

Simulation simulate(const std::vector<Program>& programs, int pieces, const PassCosts& costs) {
  return Run(programs, pieces, costs).run();
}

int Simulation::most_in_flight() const {
  return *std::max_element(peak_in_flight.begin(), peak_in_flight.end());
}

std::string in_flight_text(int count, int64_t pieces) {
  return pieces > 1 ? counted(count, "piece") + " of microbatches" : counted(count, "microbatch");
}

}  // namespace gf
