// SPDX-License-Identifier: Apache-2.0
#include "base/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "base/error.h"

namespace gf {
namespace {

Trace* g_current = nullptr;

}  // namespace

Trace::Trace() : start_(seconds_now()) {
  GF_CHECK(!g_current, "a second trace");
  g_current = this;
}

Trace::~Trace() {
  g_current = nullptr;
}

Trace* Trace::current() {
  return g_current;
}

void Trace::add_flops(double n) {
  if (g_current) g_current->flops_ += n;
}

void Trace::mark() {
  mark_ = seconds_now() - start_;
  flops_at_mark_ = flops_;
}

void Trace::add_span(Kind kind, What what) {
  end({kind, std::move(what), mark_, flops_at_mark_});
}

void Trace::open(Kind kind, What what) {
  mark();
  open_.push_back({kind, std::move(what), mark_, flops_at_mark_});
}

void Trace::close() {
  Span span = std::move(open_.back());
  open_.pop_back();
  end(std::move(span));
}

void Trace::end(Span span) {
  mark();
  span.seconds = mark_ - span.begin;
  span.flops = flops_ - span.flops_at_begin;
  if (!open_.empty()) {
    open_.back().inner_seconds += span.seconds;
    open_.back().inner_flops += span.flops;
  }
  spans_.push_back(std::move(span));
}

std::vector<Trace::Total> Trace::totals() const {
  std::map<std::string, Total> by_name;
  for (const Span& s : spans_) {
    if (s.kind != Kind::op) continue;
    Total& t = by_name[s.what.name];
    t.name = s.what.name;
    ++t.calls;
    t.seconds += s.seconds - s.inner_seconds;
    t.flops += s.flops - s.inner_flops;
    t.bytes += s.what.bytes;
  }
  std::vector<Total> totals;
  for (auto& [name, total] : by_name) totals.push_back(std::move(total));
  std::ranges::stable_sort(totals, [](const Total& a, const Total& b) { return a.seconds > b.seconds; });
  return totals;
}

// Names are op names and shapes are digits: nothing in them needs escaping.
std::string Trace::events(int process) const {
  std::string out;
  for (const Span& s : spans_) {
    out += fmt::format("{}\n{{\"name\": \"{}\", \"cat\": \"{}\", \"ph\": \"X\", \"ts\": {:.3f}, \"dur\": {:.3f}, ",
                       &s == spans_.data() ? "" : ",", s.what.name, s.kind == Kind::op ? "op" : "phase", s.begin * 1e6,
                       s.seconds * 1e6);
    out +=
        fmt::format("\"pid\": {}, \"tid\": 0, \"args\": {{\"shapes\": \"{}\", \"flops\": {:.0f}, \"bytes\": {:.0f}}}}}",
                    process, s.what.shapes, s.flops, s.what.bytes);
  }
  return out;
}

std::string Trace::json(const std::vector<std::string>& events) {
  std::string out = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [";
  bool first = true;
  for (const std::string& e : events) {
    if (e.empty()) continue;
    out += (first ? "" : ",") + e;
    first = false;
  }
  return out + "\n]}\n";
}

}  // namespace gf
