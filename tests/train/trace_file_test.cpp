// SPDX-License-Identifier: Apache-2.0
#include "train/trace_file.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

using nlohmann::json;

json event(int rank, const char* kind, const std::string& name, double begin, double length, json args = json::object(),
           int track = 0) {
  return {{"ph", "X"},    {"pid", rank}, {"tid", track},  {"cat", kind},
          {"name", name}, {"ts", begin}, {"dur", length}, {"args", std::move(args)}};
}

json pass_of(int microbatch) {
  return {{"microbatch", microbatch}, {"piece", 0}};
}

// Two stages and one microbatch, in microseconds, the events in the order of their ends as a trace has them.
json page() {
  json events = json::array();
  events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", 0}, {"args", {{"name", "rank 0"}}}});
  events.push_back(event(0, "op", "linear", 0, 5, {{"flops", 10}}));
  events.push_back(event(0, "pass", "forward", 0, 10, pass_of(0)));
  events.push_back(event(1, "wait", "wait for activations from pipeline rank 0", 0, 12));
  events.push_back(event(1, "pass", "forward", 12, 10, pass_of(0)));
  events.push_back(event(1, "pass", "backward", 22, 18, pass_of(0)));
  events.push_back(event(0, "pass", "backward", 42, 20, pass_of(0)));
  events.push_back(event(0, "phase", "optimizer", 62, 3));
  for (const int rank : {0, 1}) events.push_back(event(rank, "step", "step", 0, 70, {{"step", 7}}));
  const auto peer = [](int rank) {
    return json{{"bytes", 4}, {"pipeline_rank", rank}, {"microbatch", 0}, {"piece", 0}};
  };
  events.push_back(event(0, "transfer", "send", 10, 2, peer(1), 1));
  events.push_back(event(1, "transfer", "receive", 1, 11, peer(0), 2));
  return {{"otherData",
           {{"format", "gf-trace-1"},
            {"schedule", "one_f_one_b"},
            {"pipeline", 2},
            {"data", 1},
            {"pieces", 1},
            {"microbatches", 1},
            {"nodes", {"a", "b"}}}},
          {"traceEvents", events}};
}

class TraceFile : public testing::Test {
 protected:
  std::optional<TracedRun> read(const std::string& text) const {
    write_file(folder_ / "trace.json", text);
    return read_trace(folder_ / "trace.json");
  }
  TempFolder folder_;
};

TEST_F(TraceFile, IsReadBackInOrder) {
  const auto run = read(page().dump());
  ASSERT_TRUE(run);
  EXPECT_EQ(run->schedule, "one_f_one_b");
  EXPECT_EQ(run->first_step, 7);
  EXPECT_EQ(run->nodes, (std::vector<std::string>{"a", "b"}));
  ASSERT_EQ(run->timelines.size(), 2u);
  const Timeline& first = run->timelines[0];
  ASSERT_EQ(first.passes.size(), 2u);
  EXPECT_EQ(first.passes[1].pass, (Compute{Compute::Pass::backward, 0, 0}));
  EXPECT_NEAR(first.passes[1].begin, 42e-6, 1e-12);
  EXPECT_NEAR(first.passes[1].end, 62e-6, 1e-12);
  ASSERT_EQ(first.phases.size(), 1u) << "ops are not phases";
  ASSERT_EQ(run->timelines[1].waits.size(), 1u);
  ASSERT_EQ(run->timelines[1].transfers.size(), 1u);
  EXPECT_EQ(run->timelines[1].transfers[0].peer, 0);
  EXPECT_EQ(run->timelines[1].transfers[0].lane, 2);
  const TraceSummary s = summarize(*run);
  EXPECT_NEAR(s.all.bubble(), 1 - 58.0 / 124, 1e-9);
  EXPECT_NEAR(s.formula, 0.5, 1e-12);
  EXPECT_NEAR(s.ranks[1].communication, 2e-6, 1e-12) << "from when both sides had begun the message";
}

TEST_F(TraceFile, OfAnotherVersionIsNothing) {
  EXPECT_FALSE(read(R"({"displayTimeUnit": "ms", "traceEvents": []})"));
  json other = page();
  other["otherData"]["format"] = "gf-trace-2";
  EXPECT_FALSE(read(other.dump()));
  other["otherData"] = "none";
  EXPECT_FALSE(read(other.dump()));
}

TEST_F(TraceFile, DamageIsTold) {
  const auto refused = [&](const std::string& text, const std::string& what) {
    expect_refused({"trace.json is no", what, "delete it"}, [&] { read(text); });
  };
  const std::string whole = page().dump();
  refused("", "JSON");
  refused("[]", "not a JSON object");
  refused("{\"a\": " + std::string(200, '[') + std::string(200, ']') + "}", "nested deeper than 128 levels");
  for (size_t length = 1; length < whole.size(); length += 97) refused(whole.substr(0, length), "not JSON");
  const auto changed = [&](const char* pointer, const json& value, const std::string& what) {
    SCOPED_TRACE(pointer);
    json other = page();
    other[json::json_pointer(pointer)] = value;
    refused(other.dump(), what);
  };
  changed("/otherData/pipeline", "2", "no count under \"pipeline\"");
  changed("/otherData/pipeline", 3, "pipeline 3 x data 1");
  changed("/otherData/data", -1, "\"data\" is -1");
  changed("/otherData/microbatches", 2000000000, "passes of 2000000000 microbatches");
  changed("/otherData/microbatches", 1e300, "no count under");
  changed("/otherData/microbatches", int64_t{1} << 40, "is 1099511627776");
  changed("/otherData/schedule", "x", "no such schedule");
  changed("/otherData/nodes", 2, "no list under \"nodes\"");
  changed("/otherData/nodes", {"a"}, "an event of rank 1 of 1");
  changed("/traceEvents", 5, "no list under \"traceEvents\"");
  changed("/traceEvents/0", 5, "an event is not an object");
  changed("/traceEvents/2/pid", 2, "an event of rank 2 of 2");
  changed("/traceEvents/2/ts", "x", "no number under \"ts\"");
  changed("/traceEvents/2/ts", 1e300, "under \"ts\"");
  changed("/traceEvents/2/dur", -1, "an event lasts");
  changed("/traceEvents/2/name", "sideways", "a pass \"sideways\"");
  changed("/traceEvents/2/name", 3, "no text under \"name\"");
  changed("/traceEvents/2/args", 3, "no \"args\"");
  changed("/traceEvents/2/args/microbatch", 1, "are not the 2 of one_f_one_b");
  changed("/traceEvents/2/cat", "phase", "rank 0 has 1 passes");
  changed("/traceEvents/8/cat", "phase", "rank 0 has 0 steps");
  changed("/traceEvents/10/args/pipeline_rank", 2, "a message to pipeline rank 2");
  expect_refused({"nowhere cannot be read"}, [&] { read_trace(folder_ / "nowhere"); });
}

}  // namespace
}  // namespace gf
