// SPDX-License-Identifier: Apache-2.0
// Where the time goes: what a process does from when to when, one span inside another, and what is on its way to and
// from other processes meanwhile; to be looked at as a Chrome trace (Perfetto, chrome://tracing) or as a table. Where
// no trace is taken, each of these calls costs a comparison.
// For one thread, the one that runs the ops; work of other threads is inside the span that waits for it.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace gf {

class Trace {
 public:
  // A step holds phases, passes of its microbatches among them; these hold ops. A wait may be in any of them, and
  // nothing is computed in it. Only ops are in totals().
  enum class Kind : uint8_t { step, phase, pass, op, wait };
  struct What {
    std::string name, shapes{};
    double bytes = 0;                                        // that must be read and written at least, each value once
    std::vector<std::pair<const char*, int64_t>> numbers{};  // what else is to be told of it
  };

  // Records from here on; at most one at a time. Times count from `zero`, on the clock of seconds_now().
  explicit Trace(double zero = seconds_now());
  ~Trace();  // ... to here
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  static Trace* current();        // null where none is taken
  static void add_flops(double);  // to the span that ends next, and to those around it
  static void set_bytes(double);  // of the span that ends next, in place of those it was described with

  // A span that ends now and began where the one before it ended, or the one around it began.
  void add_span(Kind, What);

  // What is on its way while the process does other things: any number at once. May outlive its trace.
  class Transfer {
   public:
    explicit Transfer(What what) : what_(std::move(what)) {}
    void end();  // the first time counts

   private:
    friend class Trace;
    What what_;
    size_t track_ = 0;
    double begin_ = seconds_now(), end_ = 0;
    bool ended_ = false;
  };
  // Begins now. Null where no trace is taken; `what` is asked only where one is.
  template <class GetWhat>
  static std::shared_ptr<Transfer> begin_transfer(GetWhat&& what) {
    return current() ? current()->add_transfer(what()) : nullptr;
  }

  // All spans of a name that were not taken, without what lies in spans inside them; largest first.
  struct Total {
    std::string name;
    int64_t calls = 0;
    double seconds = 0, flops = 0, bytes = 0;
  };
  std::vector<Total> totals() const;
  // What has ended since the last call, in the Trace Event Format, as the inside of a list, and forgets it; `process`
  // is the rank. Spans are on track 0, transfers on as many tracks beside it as there are at once. With `all`,
  // transfers that are still under way too, as if they ended now.
  std::string take_events(int process, bool all = false);

 private:
  friend class TraceSpan;
  struct Span {
    Kind kind;
    What what;
    double begin, flops_at_begin;  // begin: since zero; flops: all since the trace began
    double seconds = 0, flops = 0;
    double inner_seconds = 0, inner_flops = 0;  // of the spans inside
  };
  void open(Kind, What);
  void close();  // the span opened last
  void end(Span);
  void mark();
  std::shared_ptr<Transfer> add_transfer(What);

  double zero_, flops_ = 0;
  std::optional<double> bytes_;          // set for the span that ends next
  double mark_ = 0, flops_at_mark_ = 0;  // when the last span ended, or the last one opened
  std::vector<Span> open_;
  std::vector<Span> spans_;                           // that were not taken, in the order of their ends
  std::vector<std::shared_ptr<Transfer>> transfers_;  // likewise, in the order of their beginnings
  std::vector<std::shared_ptr<Transfer>> tracks_;     // the last one on each track beside the spans'
  size_t tracks_named_ = 0;                           // in events, the spans' track among them
};

// From here to the end of the scope. `what` gives the description; it is asked only where a trace is taken.
class TraceSpan {
 public:
  template <class GetWhat>
  TraceSpan(Trace::Kind kind, GetWhat&& what) : trace_(Trace::current()) {
    if (trace_) trace_->open(kind, what());
  }
  explicit TraceSpan(const char* phase) : TraceSpan(Trace::Kind::phase, [&] { return Trace::What{phase}; }) {}
  ~TraceSpan() {
    if (trace_) trace_->close();
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  Trace* trace_;
};

}  // namespace gf
