// SPDX-License-Identifier: Apache-2.0
#include "train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>

#include "base/error.h"
#include "base/human.h"
#include "base/text.h"
#include "train/page_text.h"
#include "train/report_page.h"
#include "train/trace_report.h"

namespace gf {
namespace {

constexpr int64_t kRows = 1000;  // of a curve: two points each where low and high differ
constexpr int64_t kValidations = 500;
constexpr const char* kNothing = "&ndash;";

// Replaces each {{key}} once, from the left; what comes in is not searched again.
std::string filled(std::string_view page, const std::map<std::string, std::string>& values) {
  std::string out;
  for (size_t at = page.find("{{"); at != std::string_view::npos; at = page.find("{{")) {
    const size_t end = page.find("}}", at);
    GF_CHECK(end != std::string_view::npos, "the report's page has {{ without }}");
    out.append(page.substr(0, at)).append(values.at(std::string(page.substr(at + 2, end - at - 2))));
    page.remove_prefix(end + 2);
  }
  return out.append(page);
}

// The folder's name; where two runs share it, the folder as given.
std::vector<std::string> labels(std::span<const RunHistory> runs) {
  std::map<std::string, int> uses;
  for (const RunHistory& run : runs) ++uses[run.name];
  std::vector<std::string> out;
  for (const RunHistory& run : runs) out.push_back(uses[run.name] > 1 ? run.folder.string() : run.name);
  return out;
}

// Data for the script. Six digits draw any curve.

std::string json_number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6g}", value) : "null";
}
std::string json_number(int64_t value) {
  return fmt::format("{}", value);
}
std::string json_number(const std::optional<double>& value) {
  return value ? json_number(*value) : "null";
}

template <class T>
std::string json_list(const std::vector<T>& values) {
  std::string out;
  for (const T& value : values) out.append(out.empty() ? "[" : ",").append(json_number(value));
  return out.empty() ? "[]" : out.append("]");
}

std::string json_curve(const Curve& c) {
  return fmt::format(R"({{"smooth":{},"low":{},"high":{}}})", json_list(c.smooth), json_list(c.low), json_list(c.high));
}

// Steps done, for people and for a logarithmic axis, where the first is not 0.
std::vector<int64_t> done(std::vector<int64_t> steps) {
  for (int64_t& step : steps) ++step;
  return steps;
}

// What a run belongs to: colour and button.
struct Series {
  size_t number;
  std::string name;
};

std::string json_run(const RunHistory& run, const std::string& label, const Series& series,
                     const std::optional<TraceSummary>& trace) {
  const Curves c = curves(run, kRows);
  const Validations v = validations(run, kValidations);
  return fmt::format(
      "{{\"name\":{},\"series\":{},\"series_name\":{},\n\"curves\":{{\"steps\":{},\"tokens\":{},\"seconds\":{},"
      "\n\"loss\":{},\n\"grad_norm\":{},\n"
      "\"lr\":{{\"smooth\":{}}},\n\"tokens_per_s\":{}}},\n"
      "\"validation\":{{\"steps\":{},\"tokens\":{},\"seconds\":{},\"loss\":{},\"accuracy\":{}}},\n"
      "\"trace\":{}}}",
      json_text(label), series.number, json_text(series.name), json_list(done(c.step)), json_list(c.tokens),
      json_list(c.seconds), json_curve(c.loss), json_curve(c.grad_norm), json_list(c.lr), json_curve(c.tokens_per_s),
      json_list(done(v.step)), json_list(v.tokens), json_list(v.seconds), json_list(v.loss), json_list(v.accuracy),
      trace ? trace_data(*run.trace, *trace) : "null");
}

// The table of final numbers.

struct Column {
  std::string title;
  std::function<std::optional<double>(const RunHistory&, const RunSummary&)> value;
  std::function<std::string(double)> text;
  int better = 0;  // -1: the least is the best, 1: the greatest
};

std::vector<Column> columns() {
  const auto loss = [](double v) { return fmt::format("{:.4f}", v); };
  const auto percent = [](double v) { return fmt::format("{:.2f} %", 100 * v); };
  const auto whole = [](double v) { return fmt::format("{:.0f}", v); };
  using Run = const RunHistory&;
  using Sum = const RunSummary&;
  using Value = std::optional<double>;
  return {
      {"Parameters", [](Run r, Sum) { return r.parameters ? Value(*r.parameters) : Value(); }, human_count},
      {"Steps", [](Run, Sum s) { return Value(s.steps); }, whole},
      {"Skipped steps", [](Run r, Sum) { return r.skipped.empty() ? Value() : Value(r.skipped.size()); }, whole},
      {"Tokens", [](Run, Sum s) { return Value(s.tokens); }, human_count},
      {"Final loss", [](Run, Sum s) { return s.final_loss; }, loss, -1},
      {"Best val. loss", [](Run, Sum s) { return s.best_val_loss; }, loss, -1},
      {"Last val. loss", [](Run, Sum s) { return s.last_val_loss; }, loss, -1},
      {"Last val. accuracy", [](Run, Sum s) { return s.last_val_acc; }, percent, 1},
      {"Tokens/s", [](Run r, Sum s) { return r.steps.empty() ? Value() : Value(s.tokens_per_s); }, human_count},
      {"Training time", [](Run r, Sum s) { return r.steps.empty() ? Value() : Value(s.seconds); }, human_duration},
  };
}

std::string numbers_table(std::span<const RunHistory> runs, const std::vector<std::string>& names,
                          const std::vector<Series>& series) {
  std::vector<RunSummary> sums;
  for (const RunHistory& run : runs) sums.push_back(summarize(run));
  std::string head = "<th>Run</th>";
  std::vector<std::string> rows;
  for (size_t i = 0; i < runs.size(); ++i)
    rows.push_back(fmt::format("<th><i class=\"swatch\" style=\"--color: var(--run-{})\"></i>{}</th>",
                               series[i].number % 8, escaped(names[i])));
  for (const Column& column : columns()) {
    std::vector<std::optional<double>> values;
    for (size_t i = 0; i < runs.size(); ++i) values.push_back(column.value(runs[i], sums[i]));
    if (std::ranges::none_of(values, [](const auto& v) { return v.has_value(); })) continue;
    std::optional<double> best;
    for (const auto& v : values)
      if (v && column.better && (!best || (*v - *best) * column.better > 0)) best = v;
    head += "<th>" + column.title + "</th>";
    for (size_t i = 0; i < runs.size(); ++i) {
      const bool mark = runs.size() > 1 && best && values[i] == best;
      rows[i] +=
          fmt::format("<td{}>{}</td>", mark ? " class=\"best\"" : "", values[i] ? column.text(*values[i]) : kNothing);
    }
  }
  return "<div class=\"table\"><table>\n<thead><tr>" + head + "</tr></thead>\n<tbody>\n<tr>" +
         joined(rows, "</tr>\n<tr>") + "</tr>\n</tbody></table></div>\n" +
         fmt::format(
             "<p class=\"note\">Final loss: mean of the last {} steps. Training time: the steps alone, without "
             "start-up, validations and saves.</p>",
             std::ranges::max(sums, {}, &RunSummary::loss_steps).loss_steps);
}

// Where the time of traced steps went; empty where no run has a trace.
std::string traces(std::span<const RunHistory> runs, const std::vector<std::string>& names,
                   const std::vector<Series>& series, const std::vector<std::optional<TraceSummary>>& sums) {
  std::string out;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!sums[i] && runs[i].trace_note.empty()) continue;
    out += fmt::format("<div class=\"trace\" data-run=\"{}\">\n", i);
    if (runs.size() > 1)
      out += fmt::format("<h3><i class=\"swatch\" style=\"--color: var(--run-{})\"></i>{}</h3>\n", series[i].number % 8,
                         escaped(names[i]));
    out += sums[i] ? trace_section(*runs[i].trace, *sums[i]) : fmt::format("<p>{}</p>\n", escaped(runs[i].trace_note));
    out += "</div>\n";
  }
  if (out.empty()) return out;
  return "<section id=\"traces\">\n<h2>Inside a step</h2>\n" + out +
         "<p class=\"note\">Bubble: share of the time from the first pass begun in a pipeline to the last one ended in "
         "which a "
         "rank ran no pass. Communication: time in which a message, a reduction or a gather was under way, begun by "
         "all "
         "who take part; overlapped: share of it in which the rank computed.</p>\n</section>\n";
}

// Losses by position; empty where no run has any.
std::string positions(std::span<const RunHistory> runs, const std::vector<std::string>& names,
                      const std::vector<Series>& series) {
  std::vector<PositionCurve> curves;
  std::set<int64_t> trained;
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto length = runs[i].config.find("model.ctx_len");
    if (!runs[i].positions.empty() && length != runs[i].config.end())
      trained.insert(std::strtoll(length->second.c_str(), nullptr, 10));
    for (size_t k = 0; k < runs[i].positions.size(); ++k) {
      const PositionLosses& p = runs[i].positions[k];
      std::string name = fmt::format("{}, {} tokens", names[i], p.ctx_len);
      if (p.rescale != 1) name += fmt::format(", rescale {}", p.rescale);
      if (p.rebase != 1) name += fmt::format(", rebase {}", p.rebase);
      curves.push_back({name, series[i].number, k, &p});
    }
  }
  trained.erase(0);  // what is no number
  std::string plot = position_plot(curves, std::vector(trained.begin(), trained.end()));
  if (plot.empty()) return plot;
  return "<section id=\"positions\">\n<h2>Loss by position</h2>\n" + plot +
         "<p class=\"note\">Mean cross-entropy in nats of the tokens in each part of a window, as gf eval "
         "--by-position "
         "told it.</p>\n</section>\n";
}

// The configurations: the keys in which they differ side by side, then each as a whole.

std::string differences_table(std::span<const RunHistory> runs, const std::vector<std::string>& names) {
  std::set<std::string> keys;
  for (const RunHistory& run : runs)
    for (const auto& [key, value] : run.config) keys.insert(key);
  const auto value_of = [](const RunHistory& run, const std::string& key) -> std::optional<std::string> {
    const auto found = run.config.find(key);
    return found == run.config.end() ? std::nullopt : std::optional(found->second);
  };
  std::string rows;
  for (const std::string& key : keys) {
    const auto first = value_of(runs[0], key);
    if (std::ranges::all_of(runs, [&](const RunHistory& run) { return value_of(run, key) == first; })) continue;
    rows += "<tr><td class=\"key\">" + escaped(key) + "</td>";
    for (const RunHistory& run : runs) {
      const auto value = value_of(run, key);
      rows +=
          fmt::format("<td{}>{}</td>", value == first ? "" : " class=\"other\"", value ? escaped(*value) : kNothing);
    }
    rows += "</tr>\n";
  }
  if (rows.empty()) return "<p>All runs have the same configuration.</p>\n";
  std::string head = "<th>Keys that differ</th>";
  for (const std::string& name : names) head += "<th>" + escaped(name) + "</th>";
  return "<div class=\"table texts\"><table>\n<thead><tr>" + head + "</tr></thead>\n<tbody>\n" + rows +
         "</tbody></table></div>\n";
}

std::string configurations(std::span<const RunHistory> runs, const std::vector<std::string>& names) {
  std::string out = runs.size() > 1 ? differences_table(runs, names) : "";
  for (size_t i = 0; i < runs.size(); ++i) {
    out += fmt::format("<details{}><summary>{}</summary><div class=\"columns\"><pre>{}</pre></div></details>\n",
                       runs.size() == 1 ? " open" : "", escaped(names[i]),
                       runs[i].config_text.empty() ? "no config.yaml" : escaped(runs[i].config_text));
  }
  return out;
}

}  // namespace

std::string report_page(std::span<const RunHistory> runs, const ReportFrame& frame) {
  GF_CHECK(!runs.empty(), "a report of no run");
  const std::vector<std::string> names = labels(runs);
  std::vector<std::string> data;
  std::vector<Series> series;
  for (size_t i = 0; i < runs.size(); ++i)
    series.push_back(frame.series.empty() ? Series{i, names[i]}
                                          : Series{frame.series[i], frame.series_names[frame.series[i]]});
  std::vector<std::optional<TraceSummary>> sums;
  for (size_t i = 0; i < runs.size(); ++i) {
    sums.push_back(runs[i].trace ? std::optional(summarize(*runs[i].trace)) : std::nullopt);
    data.push_back(json_run(runs[i], names[i], series[i], sums[i]));
  }
  const bool one = runs.size() == 1;
  return filled(kPage, {{"title", escaped(frame.title.empty() ? joined(names, ", ") : frame.title)},
                        {"heading", !frame.title.empty() ? escaped(frame.title)
                                    : one                ? escaped(names[0])
                                                         : fmt::format("{} runs", runs.size())},
                        {"subheading",
                         one && frame.title.empty() ? fmt::format("<p>{}</p>", escaped(runs[0].folder.string())) : ""},
                        {"numbers", frame.tables + numbers_table(runs, names, series)},
                        {"traces", traces(runs, names, series, sums)},
                        {"positions", positions(runs, names, series)},
                        {"configs", configurations(runs, names)},
                        {"data", fmt::format("[{}]", joined(data, ",\n"))},
                        {"style", kStyle},
                        {"script", std::string(kTools) + kCharts + kTimelines},
                        {"version", GF_VERSION}});
}

}  // namespace gf
