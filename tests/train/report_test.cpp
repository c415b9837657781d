// SPDX-License-Identifier: Apache-2.0
#include "train/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/files.h"
#include "support/temp_folder.h"
#include "train/trace_report.h"

namespace gf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

StepMetrics step(int64_t number, double loss = 2) {
  return {.step = number,
          .tokens = (number + 1) * 100,
          .loss = loss,
          .grad_norm = 1,
          .lr = 0.001,
          .step_s = 0.5,
          .tokens_per_s = 200,
          .val_loss = {},
          .val_acc = {}};
}

RunHistory run_of(int64_t count) {
  RunHistory run;
  run.name = "run";
  run.folder = "out/run";
  for (int64_t i = 0; i < count; ++i) run.steps.push_back(step(i));
  return run;
}

std::filesystem::path make_run(const TempFolder& folder, const std::string& name, const std::string& config) {
  std::filesystem::create_directories(folder / name);
  if (!config.empty()) std::ofstream(folder / name / "config.yaml") << config;
  MetricsWriter writer(folder / name / "metrics.jsonl", 0);
  for (int i = 0; i < 3; ++i) writer.append(step(i));
  return folder / name;
}

std::pair<std::string, int> error_of_loading(const std::filesystem::path& folder) {
  try {
    load_run(folder);
  } catch (const Error& e) {
    return {e.what(), static_cast<int>(e.status())};
  }
  return {"no error", 0};
}

// The data of the page's script, as a browser would read it.
nlohmann::json data_in(const std::string& page) {
  const std::string begin = "id=\"data\">";
  const size_t at = page.find(begin) + begin.size();
  return nlohmann::json::parse(page.substr(at, page.find("</script>", at) - at));
}

TEST(RunHistory, LoadsConfigAndSteps) {
  TempFolder folder;
  const RunHistory run = load_run(
      make_run(folder, "a",
               "model:\n  tmix: gold\n  rope: {base: 1e4}\n  alibi: {}\n  brope: null\ntrain: {betas: [0.9, 0.99]}\n"));
  EXPECT_EQ(run.name, "a");
  EXPECT_FALSE(run.parameters.has_value()) << "gold cannot be a lower layer";
  EXPECT_EQ(run.steps.size(), 3u);
  EXPECT_EQ(run.config.at("model.tmix"), "gold");
  EXPECT_EQ(run.config.at("model.rope.base"), "1e4");
  EXPECT_EQ(run.config.at("train.betas[1]"), "0.99");
  EXPECT_EQ(run.config.at("model.alibi"), "on");
  EXPECT_FALSE(run.config.contains("model.brope"));
}

TEST(RunHistory, TheNameIsTheFoldersHoweverItIsWritten) {
  TempFolder folder;
  make_run(folder, "a", "");
  EXPECT_EQ(load_run(folder / "a/").name, "a");
  EXPECT_EQ(load_run(folder / "a/.").name, "a");
  EXPECT_EQ(load_run(folder / "a/../a").name, "a");
}

TEST(RunHistory, BadRunsAreRefused) {
  TempFolder folder;
  EXPECT_THAT(error_of_loading(folder / "none").first, HasSubstr("there is no run folder"));
  EXPECT_EQ(error_of_loading(folder / "none").second, 2);
  EXPECT_THAT(error_of_loading(folder.path()).first, HasSubstr("has no metrics.jsonl"));
  EXPECT_EQ(error_of_loading(folder.path()).second, 2);
  const auto [what, status] = error_of_loading(make_run(folder, "a", "model:\n  tmix: [1\n"));
  EXPECT_THAT(what, HasSubstr("a/config.yaml:3 is not YAML"));
  EXPECT_EQ(status, 2);
}

TEST(RunHistory, AnchorsCannotMakeAHugeConfig) {
  std::string config = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n";
  for (int i = 1; i < 12; ++i) {
    config += cat("a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) config += cat(j ? ", " : "", "*a", i - 1);
    config += "]\n";
  }
  TempFolder folder;
  const auto [what, status] = error_of_loading(make_run(folder, "a", config));
  EXPECT_THAT(what, HasSubstr("config.yaml: more than 10000 keys"));
  EXPECT_EQ(status, 2);
}

// Lists of lists have no keys.
TEST(RunHistory, AnchorsCannotMakeItLong) {
  std::string config = "a0: &a0 [[], [], [], [], [], [], [], [], [], []]\n";
  for (int i = 1; i < 12; ++i) {
    config += cat("a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) config += cat(j ? ", " : "", "*a", i - 1);
    config += "]\n";
  }
  TempFolder folder;
  const auto run = make_run(folder, "a", config);
  expect_refused({"config.yaml: more than 10000 keys"}, [&] { load_run(run); });
}

TEST(RunHistory, AFailureToReadIsToldOfEachFile) {
  TempFolder folder;
  const auto run = make_run(folder, "a", "model:\n  ctx_len: 4\n");
  write_file(run / "trace.json", "{}");
  write_file(run / "positions.jsonl",
             R"({"ctx_len": 8, "rescale": 1, "rebase": 1, "by_position": [{"end": 8, "loss": 1}]})");
  std::set<std::string> told;
  bool reached = true;
  for (int call = 0; reached; ++call) {
    const FaultyDisk disk(run.string(), Fault::read_error, call);
    try {
      load_run(run);
      reached = disk.reached();
      EXPECT_FALSE(reached) << "call " << call << " failed, and nobody says so";
    } catch (const Error& e) {
      EXPECT_EQ(static_cast<int>(e.status()), 1) << e.what();
      told.insert(e.what());
    }
  }
  std::set<std::string> wanted;
  for (const char* name : {"config.yaml", "metrics.jsonl", "positions.jsonl", "trace.json"})
    wanted.insert(cat("cannot read ", (run / name).string(), ": Input/output error"));
  EXPECT_EQ(told, wanted);
}

TEST(RunHistory, APipeIsRefused) {
  TempFolder folder;
  const auto run = make_run(folder, "a", "");
  for (const char* name : {"config.yaml", "positions.jsonl", "trace.json"}) {
    ASSERT_EQ(mkfifo((run / name).c_str(), 0600), 0);
    expect_refused({(run / name).string() + " is not a regular file"}, [&] { load_run(run); });
    std::filesystem::remove(run / name);
  }
}

TEST(RunSummary, FinalNumbers) {
  RunHistory run = run_of(200);
  for (int i = 100; i < 200; ++i) run.steps[i].loss = i % 2 ? 1.5 : 0.5;
  run.steps[50].val_loss = 1.25;
  run.steps[150].val_loss = 1.5, run.steps[150].val_acc = 0.5;
  run.steps[3].tokens_per_s = 1e6;
  const RunSummary s = summarize(run);
  EXPECT_EQ(s.steps, 200);
  EXPECT_EQ(s.tokens, 20000);
  EXPECT_EQ(s.final_loss, 1);
  EXPECT_EQ(s.loss_steps, 100);
  EXPECT_EQ(s.best_val_loss, 1.25);
  EXPECT_EQ(s.last_val_loss, 1.5);
  EXPECT_EQ(s.last_val_acc, 0.5);
  EXPECT_EQ(s.tokens_per_s, 200);
  EXPECT_EQ(s.seconds, 100);
}

TEST(Curves, AShortRunKeepsEveryStep) {
  RunHistory run = run_of(10);
  run.steps[4].loss = 7;
  const Curves c = curves(run, 10);
  EXPECT_EQ(c.step.size(), 10u);
  EXPECT_EQ(c.tokens.front(), 100);
  EXPECT_EQ(c.seconds.back(), 5);
  EXPECT_EQ(c.loss.low[4], 7);
  EXPECT_EQ(c.loss.high[4], 7);
}

TEST(Curves, ALongRunIsThinnedAndLosesNoSpike) {
  RunHistory run = run_of(100000);
  run.steps[54321].loss = 99, run.steps[12345].loss = -99;
  const Curves c = curves(run, 1000);
  EXPECT_LE(c.step.size(), 1000u);
  EXPECT_GT(c.step.size(), 500u);
  EXPECT_TRUE(std::ranges::is_sorted(c.step, std::less_equal<>()));
  EXPECT_EQ(c.step.back(), 99999);
  EXPECT_EQ(std::ranges::max(c.loss.high), 99);
  EXPECT_EQ(std::ranges::min(c.loss.low), -99);
  EXPECT_LT(c.step[10], 100) << "the first steps have rows of their own, for a logarithmic axis";
}

TEST(Curves, SmoothingFollowsAndCalms) {
  RunHistory run = run_of(10000);
  for (auto& m : run.steps) m.loss = 3 + (m.step % 2 ? 0.5 : -0.5) + (m.step >= 5000 ? 1 : 0);
  const Curves c = curves(run, 10000);
  EXPECT_EQ(c.loss.smooth[0], 2.5);  // nothing but the first value
  // The memory is 100 steps: alternating +-0.5 is damped to about 0.5 / 200, a step of height 1 is e^-10 away after
  // 1000.
  EXPECT_NEAR(c.loss.smooth[4999], 3, 0.005);
  EXPECT_NEAR(c.loss.smooth[6000], 4, 0.005);
}

TEST(Curves, ValidationsKeepTheLast) {
  RunHistory run = run_of(1000);
  for (auto& m : run.steps) m.val_loss = static_cast<double>(m.step);
  EXPECT_EQ(validations(run, 1000).loss.size(), 1000u);
  const Validations v = validations(run, 300);
  EXPECT_EQ(v.loss.size(), 250u);
  EXPECT_EQ(v.loss.back(), 999);
  EXPECT_EQ(v.tokens.back(), 100000);
}

TEST(Report, RunsOfOneSeriesHaveOneColourAndOneButton) {
  TempFolder folder;
  std::vector<RunHistory> runs;
  for (const char* name : {"a-s1", "a-s2", "b-s1"}) runs.push_back(load_run(make_run(folder, name, "")));
  runs[1].positions.push_back({16, 1, 1, {{8, 2.5}, {16, 1.5}}});
  const std::string page = report_page(runs, {"all <of> them", "<h2>A table</h2>", {4, 4, 1}, {"", "b", "", "", "a"}});
  const auto data = data_in(page);
  ASSERT_EQ(data.size(), 3u);
  EXPECT_EQ(data[0]["series"], 4);
  EXPECT_EQ(data[1]["series"], 4);
  EXPECT_EQ(data[1]["series_name"], "a");
  EXPECT_EQ(data[1]["name"], "a-s2");
  EXPECT_EQ(data[2]["series_name"], "b");
  EXPECT_THAT(page, HasSubstr("<h1>all &lt;of&gt; them</h1>"));
  EXPECT_THAT(page, HasSubstr("<h2>A table</h2>"));
  EXPECT_THAT(page, HasSubstr("var(--run-4)\"></i>a-s2"));
  EXPECT_THAT(page.substr(page.find("<section id=\"positions\">")), HasSubstr("var(--run-4)\"></i>a-s2, 16 tokens"));
  const auto alone = data_in(report_page(runs));
  EXPECT_EQ(alone[2]["series"], 2) << "each run is one where nothing is said";
  EXPECT_EQ(alone[2]["series_name"], "b-s1");
}

TEST(Report, HasNumbersAndDataOfEveryRun) {
  std::vector<RunHistory> runs = {run_of(50), run_of(80)};
  runs[0].name = "first", runs[1].name = "second";
  runs[1].steps.back().val_loss = 1.23456;
  const std::string page = report_page(runs);
  EXPECT_THAT(page, HasSubstr("<h1>2 runs</h1>"));
  EXPECT_THAT(page, HasSubstr("<td class=\"best\">1.2346</td>"));
  EXPECT_THAT(page, HasSubstr("<td>&ndash;</td>"));  // the first run has no validation
  const auto data = data_in(page);
  ASSERT_EQ(data.size(), 2u);
  EXPECT_EQ(data[0]["name"], "first");
  EXPECT_EQ(data[1]["curves"]["steps"].size(), 80u);
  EXPECT_EQ(data[1]["curves"]["steps"][0], 1);
  EXPECT_EQ(data[1]["validation"]["loss"][0], 1.23456);
  EXPECT_EQ(data[1]["validation"]["accuracy"][0], nullptr);
}

TEST(Report, ShowsOnlyKeysThatDiffer) {
  std::vector<RunHistory> runs = {run_of(5), run_of(5)};
  runs[0].config = {{"model.n_layer", "6"}, {"model.tmix", "gold"}};
  runs[1].config = {{"model.n_layer", "6"}, {"model.tmix", "x060"}, {"train.lr_init", "0.1"}};
  const std::string page = report_page(runs);
  EXPECT_THAT(page, HasSubstr("<td class=\"key\">model.tmix</td><td>gold</td><td class=\"other\">x060</td>"));
  EXPECT_THAT(page, HasSubstr("<td class=\"key\">train.lr_init</td><td>&ndash;</td><td class=\"other\">0.1</td>"));
  EXPECT_THAT(page, Not(HasSubstr("model.n_layer")));
}

TEST(Report, RunsOfOneNameAreToldApartByTheirFolders) {
  std::vector<RunHistory> runs = {run_of(5), run_of(5)};
  runs[0].folder = "a/run", runs[1].folder = "b/run";
  const auto data = data_in(report_page(runs));
  EXPECT_EQ(data[0]["name"], "a/run");
  EXPECT_EQ(data[1]["name"], "b/run");
}

TEST(Report, NothingOfARunBecomesMarkup) {
  RunHistory run = run_of(5);
  run.name = "</script><script>alert('1')</script>&\xff {{data}}";
  run.config_text = "wandb: \"<img src=x onerror=alert(2)>\" # {{script}}\n";
  const std::string page = report_page(std::vector{run});
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  EXPECT_THAT(page, HasSubstr("&lt;/script&gt;&lt;script&gt;alert(&#39;1&#39;)"));
  EXPECT_THAT(page, HasSubstr("onerror=alert(2)&gt;&quot; # {{script}}"));
  EXPECT_EQ(data_in(page)[0]["name"], "</script><script>alert('1')</script>&\xEF\xBF\xBD {{data}}");
}

TEST(Report, NeedsNoNetwork) {
  const std::string page = report_page(std::vector{run_of(5)});
  EXPECT_THAT(page, Not(HasSubstr("https:")));
  EXPECT_THAT(page, Not(HasSubstr(" src=")));
  EXPECT_THAT(page, Not(HasSubstr("<link")));
  EXPECT_THAT(page, Not(HasSubstr("@import")));
}

// One step of one rank: forward from 0 to 1 s, backward from 2 to 4 s, a wait between.
TracedRun traced_run(int steps = 1) {
  TracedRun run{.schedule = "one_f_one_b", .first_step = 1, .nodes = {"node<7>"}};
  Timeline t;
  for (int i = 0; i < steps; ++i) {
    const double at = 10.0 * i;
    t.steps.push_back({at, at + 5});
    t.passes.push_back({{Compute::Pass::forward}, at, at + 1});
    t.passes.push_back({{Compute::Pass::backward}, at + 2, at + 4});
    t.waits.push_back({"wait for <b>", {at + 1, at + 2}});
    t.transfers.push_back({.name = "reduce", .at = {at + 0.5, at + 1.5}, .lane = 1});
  }
  run.timelines = {t};
  return run;
}

TEST(Report, ATraceIsShownAsTablesAndData) {
  std::vector<RunHistory> runs = {run_of(5), run_of(5)};
  runs[0].trace = traced_run(3);
  const std::string page = report_page(runs);
  EXPECT_THAT(page, HasSubstr("<h2>Inside a step</h2>"));
  EXPECT_THAT(page, HasSubstr("Steps 2 to 4 of 1 rank: one_f_one_b, pipeline 1 &times; data 1"));
  EXPECT_THAT(page, HasSubstr("The bubble is <b>25.0 %</b>; the schedule's own is 0.0 %"));
  EXPECT_THAT(page, HasSubstr("<b>50.0 %</b> lay behind computing"));
  EXPECT_THAT(page, HasSubstr("<td>node&lt;7&gt;</td>"));
  EXPECT_THAT(page, HasSubstr("<td>wait for &lt;b&gt;</td><td>1.0</td><td>1000.0 ms<small>20.0 %</small></td>"));
  const auto data = data_in(page);
  EXPECT_EQ(data[1]["trace"], nullptr);
  const auto& trace = data[0]["trace"];
  EXPECT_EQ(trace["step"], 3) << "the one of median length, the second of equals";
  EXPECT_EQ(trace["bubble"], 0.25);
  EXPECT_EQ(trace["bubbles"].size(), 3u);
  EXPECT_EQ(trace["length"], 5'000'000);
  ASSERT_EQ(trace["ranks"].size(), 1u);
  const auto& spans = trace["ranks"][0]["spans"];
  ASSERT_EQ(spans.size(), 3u) << "of one step";
  EXPECT_EQ(trace["names"][spans[1][0].get<int>()], "backward");
  EXPECT_EQ(spans[1][1], 2'000'000);
  EXPECT_EQ(spans[1][2], 2'000'000);
  EXPECT_EQ(trace["ranks"][0]["transfers"].size(), 1u);
}

TEST(Report, ATraceOfAnotherVersionIsToldOf) {
  RunHistory run = run_of(5);
  EXPECT_THAT(report_page(std::vector{run}), Not(HasSubstr("Inside a step")));
  run.trace_note = "written by <another>";
  EXPECT_THAT(report_page(std::vector{run}), HasSubstr("<p>written by &lt;another&gt;</p>"));
}

TEST(Report, ATraceOfManyRanksMakesASmallPage) {
  TracedRun run = traced_run();
  run.data = 2000;
  run.nodes.assign(2000, "n");
  run.timelines.assign(2000, run.timelines[0]);
  const TraceSummary sum = summarize(run);
  // Four spans a rank.
  const auto data = nlohmann::json::parse(trace_data(run, sum, 100));
  EXPECT_EQ(data["ranks"].size(), 26u);
  EXPECT_EQ(data["all_ranks"], 2000);
  const std::string section = trace_section(run, sum);
  EXPECT_THAT(section, HasSubstr("1936 more"));
  EXPECT_LT(section.size(), 30'000u);
}

TEST(Report, ARunWithoutStepsIsShown) {
  const std::string page = report_page(std::vector{run_of(0), run_of(3)});
  EXPECT_EQ(data_in(page)[0]["curves"]["steps"].size(), 0u);
  EXPECT_THAT(page, HasSubstr("<td>0</td>"));
}

TEST(Report, ALongRunMakesASmallPage) {
  RunHistory run = run_of(200000);
  for (auto& m : run.steps) m.loss = 2 + std::sin(0.1 * static_cast<double>(m.step)), m.val_loss = m.loss;
  // 1000 rows of 13 numbers with up to 9 characters and a comma each, 500 validations of 5, and the page itself.
  EXPECT_LT(report_page(std::vector{run}).size(), 130000u + 25000u + 40000u);
}

TEST(Report, LossByPosition) {
  TempFolder folder;
  const auto run = make_run(folder, "a", "model:\n  ctx_len: 4\n");
  EXPECT_THAT(report_page(std::vector{load_run(run)}), Not(HasSubstr("Loss by position")));
  const std::string first =
      R"({"loss": 2, "tokens": 9, "acc": 0, "ctx_len": 16, "rescale": 1, "rebase": 1, )"
      R"("by_position": [{"end": 4, "loss": 1.5}, {"end": 9, "loss": null}, {"end": 16, "loss": 2.5}]})";
  std::ofstream(run / "positions.jsonl")
      << first << "\n\n"
      << R"({"ctx_len": 16, "rescale": 4, "rebase": 2, "by_position": [{"end": 16, "loss": 1.75}]})"
      << "\n";
  const RunHistory loaded = load_run(run);
  ASSERT_EQ(loaded.positions.size(), 2u);
  EXPECT_EQ(loaded.positions[0].parts.size(), 3u);
  EXPECT_FALSE(loaded.positions[0].parts[1].loss.has_value());
  EXPECT_EQ(loaded.positions[1].rescale, 4);
  const std::string page = report_page(std::vector{loaded});
  EXPECT_THAT(page, HasSubstr("Loss by position"));
  EXPECT_THAT(page, HasSubstr("a, 16 tokens</th><td>3</td><td>1.5000</td><td>1.5000</td><td>2.5000</td>"));
  EXPECT_THAT(page, HasSubstr("a, 16 tokens, rescale 4, rebase 2</th><td>1</td><td>1.7500</td>"));
  EXPECT_THAT(page, HasSubstr(">trained</text>"));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  const std::string whole = R"("ctx_len": 16, "rescale": 1, "rebase": 1, "by_position": [{"end": 16, "loss": 1}]})";
  const std::string deep = "{\"more\": " + std::string(200, '[') + std::string(200, ']') + ", " + whole,
                    long_one = "{\"more\": \"" + std::string(10'000'000, 'x') + "\", " + whole;
  for (const char* bad : {"{}", "plain", R"({"ctx_len": 16, "rescale": 1, "rebase": 1, "by_position": []})",
                          R"({"ctx_len": 1e300, "rescale": 1, "rebase": 1, "by_position": [{"end": 1, "loss": 1}]})",
                          R"({"ctx_len": 16, "rescale": 1, "rebase": 1, "by_position": [{"end": 1e300, "loss": 1}]})",
                          R"({"ctx_len": 16, "rescale": 1, "rebase": 1, "by_position": [{"end": 16, "loss": -1e100}]})",
                          deep.c_str(), long_one.c_str(),
                          R"({"ctx_len": 9223372036854775807, "rescale": 1, "rebase": 1,)"
                          R"( "by_position": [{"end": 9223372036854775807, "loss": 1}]})",
                          R"({"ctx_len": 16, "rescale": 1, "rebase": 1, "by_position": [{"end": 17, "loss": 1}]})",
                          R"({"ctx_len": 16, "rescale": 1, "rebase": 1, "by_position": [{"end": 0, "loss": 1}]})"}) {
    std::ofstream(run / "positions.jsonl") << first << "\n" << bad << "\n";
    const auto [what, status] = error_of_loading(run);
    EXPECT_THAT(what, HasSubstr("positions.jsonl:2 is no line of gf eval --by-position"))
        << std::string(bad).substr(0, 200);
    EXPECT_EQ(status, 2);
  }
}

// Whatever the losses are, and however close together: their axis has its few marks, all within the drawing.
TEST(Report, LossesByPositionOfAnySize) {
  const auto marks_of = [](const std::vector<double>& losses) {
    PositionLosses p;
    p.ctx_len = std::ssize(losses);
    for (const double loss : losses) p.parts.push_back({std::ssize(p.parts) + 1, loss});
    const std::string plot = position_plot(std::vector{PositionCurve{.name = "a", .losses = &p}}, {});
    EXPECT_THAT(plot, Not(HasSubstr("nan")));
    EXPECT_THAT(plot, Not(HasSubstr("inf")));
    std::vector<double> heights;
    const std::string begin = "<path class=\"grid\" d=\"M54,";
    for (size_t at = 0; (at = plot.find(begin, at)) != std::string::npos;)
      heights.push_back(std::stod(plot.substr(at += begin.size())));
    return heights;
  };
  const std::vector<std::vector<double>> all = {{2.5, 2.75},
                                                {2.5},
                                                {0.0},
                                                {2.5, std::nextafter(2.5, 3)},
                                                {1e16},
                                                {1.8e19},
                                                {9e99},
                                                {-9e99, 9e99},
                                                {1e300},
                                                {-1e16, 1e16},
                                                {1e16, 1e16 + 2},
                                                {1e-300, 2e-300}};
  for (const std::vector<double>& losses : all) {
    SCOPED_TRACE(testing::PrintToString(losses));
    const std::vector<double> heights = marks_of(losses);
    EXPECT_THAT(heights.size(), testing::AllOf(testing::Ge(2u), testing::Le(7u)));
    EXPECT_THAT(heights, testing::Each(testing::AllOf(testing::Ge(8), testing::Le(330))));
    EXPECT_TRUE(std::ranges::is_sorted(heights, std::greater()));
  }
}

}  // namespace
}  // namespace gf
