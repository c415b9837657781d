// SPDX-License-Identifier: Apache-2.0
#include "base/trace.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace gf {
namespace {

using nlohmann::json;

constexpr auto kOp = Trace::Kind::op;

// Two ops in a phase, one of them with another inside.
void work() {
  const TraceSpan phase("forward");
  Trace::add_flops(10);
  if (Trace* trace = Trace::current()) trace->add_span(kOp, {"linear", "2x3 to 2x4", 56});
  const TraceSpan outer(kOp, [] { return Trace::What{"recompute backward", "", 8}; });
  Trace::add_flops(100);
  {
    const TraceSpan inner(kOp, [] { return Trace::What{"linear", "", 4}; });
    Trace::add_flops(1000);
  }
}

TEST(Trace, NothingIsAskedForWhereNoneIsTaken) {
  EXPECT_EQ(Trace::current(), nullptr);
  work();
  const TraceSpan span(kOp, []() -> Trace::What { throw std::logic_error("asked"); });
}

TEST(Trace, TotalsAreOfOpsWithoutWhatIsInsideThem) {
  const Trace trace;
  work();
  const auto totals = trace.totals();
  ASSERT_EQ(totals.size(), 2u);
  const auto& linear = totals[totals[0].name == "linear" ? 0 : 1];
  const auto& recompute = totals[totals[0].name == "linear" ? 1 : 0];
  EXPECT_EQ(linear.calls, 2);
  EXPECT_EQ(linear.flops, 1010);
  EXPECT_EQ(linear.bytes, 60);
  EXPECT_EQ(recompute.name, "recompute backward");
  EXPECT_EQ(recompute.flops, 100);
  EXPECT_GE(recompute.seconds, 0);
  EXPECT_GE(totals[0].seconds, totals[1].seconds);
}

// An op that reads only a part of its inputs knows better than who describes it; the next one is described as ever.
TEST(Trace, BytesThatAreSetAreOfTheSpanThatEndsNext) {
  Trace::set_bytes(1);  // no trace
  Trace trace;
  {
    const TraceSpan outer(kOp, [] { return Trace::What{"outer", "", 8}; });
    Trace::set_bytes(5);
    trace.add_span(kOp, {"first", "", 100});
    trace.add_span(kOp, {"second", "", 200});
    Trace::set_bytes(3);
  }
  std::map<std::string, double> bytes;
  for (const auto& op : trace.totals()) bytes[op.name] = op.bytes;
  EXPECT_EQ(bytes, (std::map<std::string, double>{{"first", 5}, {"second", 200}, {"outer", 3}}));
  const json events = json::parse("[" + trace.take_events(0) + "]");
  EXPECT_EQ(events.at(1).at("args").at("bytes"), 5);
}

TEST(Trace, JsonIsInTheTraceEventFormat) {
  Trace trace;
  work();
  const json events = json::parse("[" + trace.take_events(3) + "]");
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0],
            json({{"name", "thread_name"}, {"ph", "M"}, {"pid", 3}, {"tid", 0}, {"args", {{"name", "compute"}}}}));
  const json &first = events[1], &inner = events[2], &outer = events[3], &phase = events[4];
  EXPECT_EQ(first.at("name"), "linear");
  EXPECT_EQ(first.at("args"), json({{"shapes", "2x3 to 2x4"}, {"flops", 10}, {"bytes", 56}}));
  EXPECT_EQ(phase.at("cat"), "phase");
  EXPECT_EQ(phase.at("args").at("flops"), 1110);
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].at("ph"), i > 0 ? "X" : "M");
    EXPECT_EQ(events[i].at("pid"), 3);
  }
  // One inside another, in microseconds to three digits.
  const auto begin = [](const json& e) { return e.at("ts").get<double>(); };
  const auto end = [&](const json& e) { return begin(e) + e.at("dur").get<double>(); };
  EXPECT_LE(begin(phase), begin(first) + 0.002);
  EXPECT_LE(end(first), begin(outer) + 0.002);
  EXPECT_LE(begin(outer), begin(inner) + 0.002);
  EXPECT_LE(end(inner), end(outer) + 0.002);
  EXPECT_LE(end(outer), end(phase) + 0.002);
}

TEST(Trace, SpansTellTheirKindAndNumbers) {
  const double zero = seconds_now() - 100;
  Trace trace(zero);
  {
    const TraceSpan pass(Trace::Kind::pass, [] {
      return Trace::What{.name = "forward", .numbers = {{"microbatch", 3}}};
    });
    const TraceSpan wait(Trace::Kind::wait, [] { return Trace::What{"wait"}; });
  }
  const json events = json::parse("[" + trace.take_events(0) + "]");
  ASSERT_EQ(events.size(), 3u);
  const json &wait = events[1], &pass = events[2];
  EXPECT_EQ(pass.at("cat"), "pass");
  EXPECT_EQ(pass.at("args").at("microbatch"), 3);
  EXPECT_EQ(wait.at("cat"), "wait");
  EXPECT_EQ(wait.at("args"), json::object());
  EXPECT_GE(wait.at("ts").get<double>(), 100e6) << "since zero, in microseconds";
}

TEST(Trace, TransfersLieSideBySide) {
  const auto none = Trace::begin_transfer([]() -> Trace::What { throw std::logic_error("asked"); });
  EXPECT_EQ(none, nullptr);
  std::shared_ptr<Trace::Transfer> open;
  {
    Trace trace;
    const auto begin = [](const char* name) {
      return Trace::begin_transfer([&] { return Trace::What{.name = name, .bytes = 12, .numbers = {{"bucket", 1}}}; });
    };
    const auto a = begin("a");
    open = begin("b");
    a->end();
    const auto c = begin("c");  // where a was
    c->end();
    { const TraceSpan later("later"); }
    c->end();
    const json events = json::parse("[" + trace.take_events(0, true) + "]");
    std::map<std::string, json> named;
    for (const json& e : events)
      if (e.at("ph") == "X") named[e.at("name")] = e;
    ASSERT_EQ(named.size(), 4u);
    EXPECT_EQ(named["a"].at("tid"), 1);
    EXPECT_EQ(named["b"].at("tid"), 2);
    EXPECT_EQ(named["c"].at("tid"), 1);
    EXPECT_EQ(named["a"].at("cat"), "transfer");
    EXPECT_EQ(named["a"].at("args"), json({{"bytes", 12}, {"bucket", 1}}));
    const auto end = [&](const char* name) {
      return named[name].at("ts").get<double>() + named[name].at("dur").get<double>();
    };
    // Times have three digits of a microsecond.
    EXPECT_LE(end("a"), named["c"].at("ts").get<double>() + 0.002);
    EXPECT_LE(end("c"), named["later"].at("ts").get<double>() + 0.002) << "the first end counts";
    EXPECT_GE(end("b"), end("later") - 0.002) << "it has no end yet";
  }
  open->end();
}

// A long trace is taken step by step, and keeps nothing of what was taken.
TEST(Trace, TakenEventsAreForgotten) {
  Trace trace;
  const auto taken = [&](bool all = false) {
    std::vector<std::string> names;
    for (const json& e : json::parse("[" + trace.take_events(0, all) + "]"))
      names.push_back(e.at(e.at("ph") == "M" ? "args" : "name").dump());
    return names;
  };
  const auto begin = [](const char* name) { return Trace::begin_transfer([&] { return Trace::What{.name = name}; }); };
  using Names = std::vector<std::string>;
  { const TraceSpan step("first"); }
  const auto long_one = begin("long"), open_one = begin("open");
  begin("short")->end();
  EXPECT_EQ(taken(), (Names{R"({"name":"compute"})", R"({"name":"communication"})", R"({"name":"communication 2"})",
                            R"({"name":"communication 3"})", R"("first")", R"("short")"}));
  EXPECT_EQ(taken(), Names{});
  EXPECT_TRUE(trace.totals().empty());
  { const TraceSpan step("second"); }
  long_one->end();
  EXPECT_EQ(taken(), (Names{R"("second")", R"("long")"})) << "what was under way comes when it has ended";
  EXPECT_EQ(taken(true), Names{R"("open")"}) << "or at the last";
}

TEST(Trace, ThereIsOneAtATime) {
  const Trace trace;
  EXPECT_EQ(Trace::current(), &trace);
  EXPECT_THROW(Trace(), Error);
  EXPECT_EQ(Trace::current(), &trace);
}

}  // namespace
}  // namespace gf
