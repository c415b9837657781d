// SPDX-License-Identifier: Apache-2.0
#include "base/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"

namespace gf {
namespace {

Trace* g_current = nullptr;

const char* name_of(Trace::Kind kind) {
  switch (kind) {
    case Trace::Kind::step:
      return "step";
    case Trace::Kind::phase:
      return "phase";
    case Trace::Kind::pass:
      return "pass";
    case Trace::Kind::op:
      return "op";
    case Trace::Kind::wait:
      return "wait";
  }
  return "";
}

// One complete event, in microseconds. Names are of this program and shapes are digits: nothing needs escaping.
std::string event(const Trace::What& what, const char* category, double begin, double seconds, int process,
                  size_t track, const std::string& more = {}) {
  std::string args = more;
  for (const auto& [name, value] : what.numbers)
    args += fmt::format("{}\"{}\": {}", args.empty() ? "" : ", ", name, value);
  return fmt::format(
      "\n{{\"name\": \"{}\", \"cat\": \"{}\", \"ph\": \"X\", \"ts\": {:.3f}, \"dur\": {:.3f}, \"pid\": {}, \"tid\": "
      "{}, "
      "\"args\": {{{}}}}}",
      what.name, category, begin * 1e6, seconds * 1e6, process, track, args);
}

std::string name_of_track(int process, size_t track) {
  const std::string name = track == 0 ? "compute" : track == 1 ? "communication" : cat("communication ", track);
  return fmt::format(
      "\n{{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": {}, \"tid\": {}, \"args\": {{\"name\": \"{}\"}}}}",
      process, track, name);
}

}  // namespace

Trace::Trace(double zero) : zero_(zero) {
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

void Trace::set_bytes(double n) {
  if (g_current) g_current->bytes_ = n;
}

void Trace::mark() {
  mark_ = seconds_now() - zero_;
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
  if (const auto bytes = std::exchange(bytes_, std::nullopt)) span.what.bytes = *bytes;
  if (!open_.empty()) {
    open_.back().inner_seconds += span.seconds;
    open_.back().inner_flops += span.flops;
  }
  spans_.push_back(std::move(span));
}

std::shared_ptr<Trace::Transfer> Trace::add_transfer(What what) {
  const auto transfer = std::make_shared<Transfer>(std::move(what));
  auto track = std::ranges::find_if(tracks_, [](const auto& last) { return last->ended_; });
  if (track == tracks_.end()) track = tracks_.emplace(track);
  *track = transfer;
  transfer->track_ = static_cast<size_t>(track - tracks_.begin()) + 1;
  return transfers_.emplace_back(transfer);
}

void Trace::Transfer::end() {
  if (!ended_) end_ = seconds_now();
  ended_ = true;
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

std::string Trace::take_events(int process, bool all) {
  std::string out;
  const auto add = [&](const std::string& event) { out += (out.empty() ? "" : ",") + event; };
  for (; tracks_named_ <= tracks_.size(); ++tracks_named_) add(name_of_track(process, tracks_named_));
  for (const Span& s : spans_)
    add(event(s.what, name_of(s.kind), s.begin, s.seconds, process, 0,
              s.kind == Kind::wait ? ""
                                   : fmt::format("\"shapes\": \"{}\", \"flops\": {:.0f}, \"bytes\": {:.0f}",
                                                 s.what.shapes, s.flops, s.what.bytes)));
  spans_.clear();
  std::vector<std::shared_ptr<Transfer>> under_way;
  for (auto& t : transfers_) {
    if (!t->ended_ && !all) {
      under_way.push_back(std::move(t));
      continue;
    }
    t->end();
    add(event(t->what_, "transfer", t->begin_ - zero_, t->end_ - t->begin_, process, t->track_,
              fmt::format("\"bytes\": {:.0f}", t->what_.bytes)));
  }
  transfers_ = std::move(under_way);
  return out;
}

}  // namespace gf
