// SPDX-License-Identifier: Apache-2.0
// Where the time goes: what a process does from when to when, one span inside another, to be looked at as a Chrome
// trace (Perfetto, chrome://tracing) or as a table. Where no trace is taken, each of these calls costs a comparison.
// For one thread, the one that runs the ops; work of other threads is inside the span that waits for it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace gf {

class Trace {
 public:
  enum class Kind : uint8_t { phase, op };  // a phase of a step holds ops; only ops are in totals()
  struct What {
    std::string name, shapes{};
    double bytes = 0;  // that must be read and written at least, each value once
  };

  Trace();   // records from here on; at most one at a time
  ~Trace();  // ... to here
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  static Trace* current();        // null where none is taken
  static void add_flops(double);  // to the span that ends next, and to those around it

  // A span that ends now and began where the one before it ended, or the one around it began.
  void add_span(Kind, What);

  // All spans of a name, without what lies in spans inside them; largest first.
  struct Total {
    std::string name;
    int64_t calls = 0;
    double seconds = 0, flops = 0, bytes = 0;
  };
  std::vector<Total> totals() const;
  // All spans in the Trace Event Format, as the inside of a list; `process` is the rank.
  std::string events(int process) const;
  // A whole file of some processes' events.
  static std::string json(const std::vector<std::string>& events);

 private:
  friend class TraceSpan;
  struct Span {
    Kind kind;
    What what;
    double begin, flops_at_begin;  // begin: since the trace did; flops: all since then
    double seconds = 0, flops = 0;
    double inner_seconds = 0, inner_flops = 0;  // of the spans inside
  };
  void open(Kind, What);
  void close();  // the span opened last
  void end(Span);
  void mark();

  double start_, flops_ = 0;
  double mark_ = 0, flops_at_mark_ = 0;  // when the last span ended, or the last one opened
  std::vector<Span> open_;
  std::vector<Span> spans_;  // in the order of their ends
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
