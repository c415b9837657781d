// SPDX-License-Identifier: Apache-2.0
#include "train/trace_file.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/text.h"
#include "io/text/json_object.h"
#include "parallel/agreement.h"
#include "parallel/traced_work.h"

namespace gf {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "gf-trace-1";
constexpr int64_t kLongest = int64_t{1} << 31;  // bytes; more than any browser shows

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// The moment, on this rank's clock, from which all ranks count.
double common_zero(Communicator& world) {
  const auto clocks = world.gather_text(clock_name());
  world.barrier();
  const double own = seconds_now();
  const Tensor all = Tensor::empty({world.size()}, DType::f64, kCpu);
  world.all_gather(Tensor::of<double>({1}, {own}), all)->wait();
  const std::string& clock = clocks[world.rank()];
  double zero = own;
  for (int r = 0; r < world.size(); ++r)
    if (!clock.empty() && clocks[r] == clock) zero = std::min(zero, all.data<double>()[r]);
  return zero;
}

std::string header(const Plan& plan, const std::vector<std::string>& nodes) {
  const ParallelConfig& p = plan.config.parallel;
  const json about = {{"format", kFormat},       {"program", "gf-dist-train " GF_VERSION},
                      {"schedule", p.schedule},  {"pipeline", p.pipeline},
                      {"data", plan.data_ranks}, {"pieces", p.pieces},
                      {"nodes", nodes},          {"microbatches", plan.microbatches}};
  std::string text = "{\"displayTimeUnit\": \"ms\", \"otherData\": " + dumped(about) + ", \"traceEvents\": [";
  for (size_t r = 0; r < nodes.size(); ++r) {
    const int stage = static_cast<int>(r) / plan.data_ranks;
    std::string name = cat("rank ", r, ": stage ", stage);
    for (int64_t piece = 1; piece < p.pieces; ++piece) name += cat(", ", piece * p.pipeline + stage);
    name += cat("; data rank ", static_cast<int>(r) % plan.data_ranks, "; ", nodes[r]);
    text += cat("\n", dumped({{"name", "process_name"}, {"ph", "M"}, {"pid", r}, {"args", {{"name", name}}}}), ",\n",
                dumped({{"name", "process_sort_index"}, {"ph", "M"}, {"pid", r}, {"args", {{"sort_index", r}}}}), ",");
  }
  text.pop_back();  // a comma stands before each of the events that follow
  return text;
}

// What the file says of one event, or refuses; every number is one that can be worked with.
class Event {
 public:
  explicit Event(const json& event) : event_(event) {
    if (!event.is_object()) refuse("an event is not an object");
  }
  std::string text(const char* key) const {
    const auto found = event_.find(key);
    if (found == event_.end() || !found->is_string()) refuse(cat("an event has no text under \"", key, "\""));
    return found->get<std::string>();
  }
  bool is(const char* key, const char* value) const {
    const auto found = event_.find(key);
    return found != event_.end() && *found == value;
  }
  int number(const char* key) const { return integer(event_, key); }
  int argument(const char* key) const {
    const auto args = event_.find("args");
    if (args == event_.end() || !args->is_object()) refuse("an event has no \"args\"");
    return integer(*args, key);
  }
  Interval at() const {
    const double begin = real("ts") / 1e6, length = real("dur") / 1e6;
    if (length < 0) refuse(cat("an event lasts ", length, " s"));
    return {begin, begin + length};
  }

 private:
  static int integer(const json& object, const char* key) {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_number_integer()) refuse(cat("no count under \"", key, "\""));
    const auto value = found->get<int64_t>();
    if (value < 0 || value > INT_MAX) refuse(cat("\"", key, "\" is ", value));
    return static_cast<int>(value);
  }
  double real(const char* key) const {
    const auto found = event_.find(key);
    if (found == event_.end() || !found->is_number()) refuse(cat("an event has no number under \"", key, "\""));
    const auto value = found->get<double>();
    // A century, in microseconds: sums of such stay finite.
    if (!(std::fabs(value) < 3.2e15)) refuse(cat("an event has ", value, " under \"", key, "\""));
    return value;
  }
  const json& event_;
};

void add(const Event& event, TracedRun& run) {
  if (!event.is("ph", "X")) return;
  const int rank = event.number("pid");
  if (rank >= std::ssize(run.timelines)) refuse(cat("an event of rank ", rank, " of ", run.timelines.size()));
  Timeline& t = run.timelines[rank];
  const std::string kind = event.text("cat"), name = event.text("name");
  const Interval at = event.at();
  if (kind == "step") {
    if (rank == 0 && t.steps.empty()) run.first_step = event.argument("step");
    t.steps.push_back(at);
  } else if (kind == "pass") {
    const auto pass = pass_named(name);
    if (!pass) refuse("a pass " + cited(name));
    t.passes.push_back({{*pass, event.argument("microbatch"), event.argument("piece")}, at.begin, at.end});
  } else if (kind == "phase") {
    t.phases.push_back({name, at});
  } else if (kind == "wait") {
    t.waits.push_back({name, at});
  } else if (kind == "transfer") {
    const bool message = name == kSend || name == kReceive;
    t.transfers.push_back({.name = name, .at = at, .lane = event.number("tid")});
    if (!message) return;
    t.transfers.back().peer = event.argument("pipeline_rank");
    t.transfers.back().microbatch = event.argument("microbatch");
    if (t.transfers.back().peer >= run.pipeline) refuse(cat("a message to pipeline rank ", t.transfers.back().peer));
  }
}

void sort(Timeline& t) {
  const auto by_begin = [](const auto& x) { return x.at.begin; };
  std::ranges::stable_sort(t.steps, {}, &Interval::begin);
  std::ranges::stable_sort(t.passes, {}, &PassSpan::begin);
  std::ranges::stable_sort(t.phases, {}, by_begin);
  std::ranges::stable_sort(t.waits, {}, by_begin);
  std::ranges::stable_sort(t.transfers, {}, by_begin);
}

TracedRun run_of(const json& page) {
  const json& about = page.at("otherData");
  TracedRun run;
  const Event head(about);
  run.schedule = head.text("schedule");
  run.pipeline = head.number("pipeline");
  run.data = head.number("data");
  run.pieces = head.number("pieces");
  run.microbatches = head.number("microbatches");
  const auto nodes = about.find("nodes"), events = page.find("traceEvents");
  if (nodes == about.end() || !nodes->is_array()) refuse("no list under \"nodes\"");
  if (events == page.end() || !events->is_array()) refuse("no list under \"traceEvents\"");
  for (const json& node : *nodes) run.nodes.push_back(node.is_string() ? node.get<std::string>() : "");
  run.timelines.resize(run.nodes.size());
  for (const json& event : *events) add(Event(event), run);
  for (Timeline& t : run.timelines) sort(t);
  check(run);
  return run;
}

}  // namespace

TraceRecorder::TraceRecorder(const Plan& plan, Communicator& world, const std::vector<std::string>& nodes)
    : world_(world), trace_(common_zero(world)) {
  all_or_none(world_, [&] {
    if (world_.rank() > 0) return;
    file_.emplace(plan.paths.trace(), Exit::failed, File::Links::refuse);
    file_->file().write(bytes_of(header(plan, nodes)));
  });
}

void TraceRecorder::write() {
  write(false);
}

void TraceRecorder::publish() {
  write(true);
  all_or_none(world_, [&] {
    if (world_.rank() > 0) return;
    file_->file().write(bytes_of("\n]}\n"));
    file_->file().sync();
    file_->publish();
  });
}

void TraceRecorder::write(bool all) {
  const std::string events = trace_.take_events(world_.rank(), all);
  all_or_none(world_, [&] {
    world_.collect_text(events, [&](const std::string& text) {
      if (!text.empty()) file_->file().write(bytes_of("," + text));
    });
  });
}

std::optional<TracedRun> read_trace(const std::filesystem::path& path) {
  const std::string text = read_small_file(path, kLongest, "delete it, or move it away");
  try {
    // Ops are most of a trace, and nothing here asks for them.
    const auto keep = [](int depth, json::parse_event_t event, json& value) {
      if (depth > kDeepestJson) refuse(cat("it is nested deeper than ", kDeepestJson, " levels"));
      const bool op = depth == 2 && event == json::parse_event_t::object_end && value.is_object() &&
                      value.contains("cat") && value["cat"] == "op";
      return !op;
    };
    const json page = json::parse(text, keep);
    if (!page.is_object()) refuse("is not a JSON object");
    const auto about = page.find("otherData");
    if (about == page.end() || !about->is_object() || !about->contains("format")) return {};
    if ((*about)["format"] != kFormat) return {};
    return run_of(page);
  } catch (const json::exception& e) {
    refuse(cat(path.string(), " is not JSON: ", parser_message(e.what())), "delete it, or move it away");
  } catch (const Error& e) {
    refuse(cat(path.string(), " is no whole trace: ", e.what()), "delete it, or move it away");
  }
}

}  // namespace gf
