// SPDX-License-Identifier: Apache-2.0
#include "base/trace.h"

#include <gtest/gtest.h>

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

TEST(Trace, JsonIsInTheTraceEventFormat) {
  const Trace trace;
  work();
  const json page = json::parse(Trace::json({trace.events(3), "", trace.events(4)}));
  const json& events = page.at("traceEvents");
  ASSERT_EQ(events.size(), 8u) << "of two processes";
  const json &first = events[0], &inner = events[1], &outer = events[2], &phase = events[3];
  EXPECT_EQ(first.at("name"), "linear");
  EXPECT_EQ(first.at("args"), json({{"shapes", "2x3 to 2x4"}, {"flops", 10}, {"bytes", 56}}));
  EXPECT_EQ(phase.at("cat"), "phase");
  EXPECT_EQ(phase.at("args").at("flops"), 1110);
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].at("ph"), "X");
    EXPECT_EQ(events[i].at("pid"), i < 4 ? 3 : 4);
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

TEST(Trace, ThereIsOneAtATime) {
  const Trace trace;
  EXPECT_EQ(Trace::current(), &trace);
  EXPECT_THROW(Trace(), Error);
  EXPECT_EQ(Trace::current(), &trace);
}

}  // namespace
}  // namespace gf
