// SPDX-License-Identifier: Apache-2.0
#include "train/trace_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/human.h"
#include "base/text.h"
#include "train/page_text.h"

namespace gf {
namespace {

constexpr size_t kRankRows = 64, kWaitRows = 12;

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

std::string stages_of(const TracedRun& run, int rank) {
  std::string text;
  for (int piece = 0; piece < run.pieces; ++piece)
    text += fmt::format("{}{}", piece ? ", " : "", piece * run.pipeline + run.stage(rank));
  return text;
}

std::string table(const std::string& kind, const std::vector<std::string>& titles, const std::string& rows) {
  return fmt::format(
      "<div class=\"table{}\"><table>\n<thead><tr><th>{}</th></tr></thead>\n<tbody>\n{}</tbody></table></div>\n", kind,
      joined(titles, "</th><th>"), rows);
}

std::string row(const std::vector<std::string>& cells) {
  return "<tr><td>" + joined(cells, "</td><td>") + "</td></tr>\n";
}

// A length of time of each step, and its share of the steps.
std::string time_cell(double seconds, const RankTimes& t, double steps) {
  return fmt::format("{:.1f} ms<small>{}</small>", 1e3 * seconds / steps, percent(seconds / t.steps));
}

// `ranks`: that the times are the sum of.
std::vector<std::string> times_row(const RankTimes& t, size_t steps, size_t ranks) {
  const double n = static_cast<double>(steps * ranks);
  return {fmt::format("{:.1f} ms", 1e3 * t.steps / n),
          time_cell(t.computing, t, n),
          time_cell(t.waiting, t, n),
          percent(t.bubble()),
          t.communication > 0 ? time_cell(t.communication, t, n) : "&ndash;",
          t.communication > 0 ? percent(t.overlap()) : "&ndash;"};
}

std::string ranks_table(const TracedRun& run, const TraceSummary& sum) {
  const size_t ranks = sum.ranks.size(), steps = sum.bubbles.size();
  const auto line = [](std::vector<std::string> head, const std::vector<std::string>& times) {
    head.insert(head.end(), times.begin(), times.end());
    return row(head);
  };
  std::string rows;
  for (size_t r = 0; r < std::min(ranks, kRankRows); ++r)
    rows += line({fmt::format("{}", r), stages_of(run, static_cast<int>(r)), escaped(run.nodes[r])},
                 times_row(sum.ranks[r], steps, 1));
  if (ranks > kRankRows) rows += fmt::format("<tr><td colspan=\"9\">{} more</td></tr>\n", ranks - kRankRows);
  if (ranks > 1) rows += line({"mean", "", ""}, times_row(sum.all, steps, ranks));
  return table("", {"Rank", "Stage", "Node", "Step", "Computing", "Waiting", "Bubble", "Communication", "Overlapped"},
               rows);
}

std::string waits_table(const TraceSummary& sum) {
  std::string rows;
  const double steps = static_cast<double>(sum.bubbles.size());
  for (size_t i = 0; i < std::min(sum.waits.size(), kWaitRows); ++i) {
    const auto& w = sum.waits[i];
    rows +=
        row({fmt::format("{}", w.rank), escaped(w.what), fmt::format("{:.1f}", static_cast<double>(w.count) / steps),
             time_cell(w.seconds, sum.ranks[w.rank], steps)});
  }
  if (rows.empty()) return "";
  return table(" waits", {"Rank", "Longest waits", "A step", "Time"}, rows);
}

// Names of spans, by their place in a list.
class Names {
 public:
  size_t place(const std::string& name) {
    const auto [found, fresh] = places_.try_emplace(name, names_.size());
    if (fresh) names_.push_back(json_text(name));
    return found->second;
  }
  std::string json() const { return "[" + joined(names_, ",") + "]"; }

 private:
  std::map<std::string, size_t> places_;
  std::vector<std::string> names_;
};

size_t median_step(const TracedRun& run) {
  const auto& steps = run.timelines[0].steps;
  std::vector<size_t> order(steps.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, {}, [&](size_t i) { return steps[i].length(); });
  return order[(order.size() - 1) / 2];
}

// The spans of one rank in a window, in whole microseconds from its beginning.
class RankData {
 public:
  RankData(Interval window, Names& names) : window_(window), names_(names) {}

  void add(std::vector<std::string>& list, const std::string& name, Interval at, const std::string& more = "") {
    if (at.end <= window_.begin || at.begin >= window_.end) return;
    const auto micros = [](double seconds) { return std::llround(1e6 * seconds); };
    list.push_back(
        fmt::format("[{},{},{}{}]", names_.place(name), micros(at.begin - window_.begin), micros(at.length()), more));
    ++count_;
  }
  size_t count() const { return count_; }

  std::string of(const TracedRun& run, int rank, const std::vector<Interval>& under_way) {
    const Timeline& t = run.timelines[rank];
    std::vector<std::string> spans, transfers;
    for (const auto& p : t.phases) add(spans, p.name, p.at);
    for (const auto& p : t.passes)
      add(spans, std::string(name_of(p.pass.pass)), {p.begin, p.end},
          fmt::format(",{},{}", p.pass.microbatch, p.pass.piece));
    for (const auto& w : t.waits) add(spans, w.name, w.at);
    for (size_t i = 0; i < t.transfers.size(); ++i) {
      const auto& f = t.transfers[i];
      add(transfers, f.name, under_way[i], fmt::format(",{},{}", f.lane, f.microbatch));
    }
    return fmt::format("{{\"rank\":{},\"stage\":\"{}\",\"spans\":[{}],\n\"transfers\":[{}]}}", rank,
                       stages_of(run, rank), joined(spans, ","), joined(transfers, ","));
  }

 private:
  Interval window_;
  Names& names_;
  size_t count_ = 0;
};

}  // namespace

std::string trace_section(const TracedRun& run, const TraceSummary& sum) {
  const auto steps = std::ssize(sum.bubbles);
  const std::string traced = steps == 1 ? fmt::format("Step {}", run.first_step + 1)
                                        : fmt::format("Steps {} to {}", run.first_step + 1, run.first_step + steps);
  std::string said = fmt::format("<p>{} of {}: {}, pipeline {} &times; data {}, {} of each rank", traced,
                                 counted(std::ssize(run.timelines), "rank"), escaped(run.schedule), run.pipeline,
                                 run.data, counted(run.microbatches, "microbatch"));
  if (run.pieces > 1) said += fmt::format(" in {} pieces", run.pieces);
  said += fmt::format(
      ". The bubble is <b>{}</b>; the schedule's own is {} with passes of one length, and {} with the measured "
      "lengths of each rank's passes.",
      percent(sum.all.bubble()), percent(sum.formula), percent(sum.formula_of_passes));
  if (sum.all.communication > 0)
    said += fmt::format(" Of the communication, <b>{}</b> lay behind computing.", percent(sum.all.overlap()));
  return said + "</p>\n" + ranks_table(run, sum) + waits_table(sum);
}

std::string trace_data(const TracedRun& run, const TraceSummary& sum, size_t most_spans) {
  const size_t step = median_step(run);
  Interval window = run.timelines[0].steps[step];
  for (const Timeline& t : run.timelines)
    window = {std::min(window.begin, t.steps[step].begin), std::max(window.end, t.steps[step].end)};
  const auto transfers = under_way(run);
  Names names;
  std::vector<std::string> ranks;
  size_t spans = 0;
  for (int d = 0; d < run.data && spans <= most_spans; ++d) {
    for (int s = 0; s < run.pipeline && spans <= most_spans; ++s) {
      RankData data(window, names);
      const int rank = s * run.data + d;
      ranks.push_back(data.of(run, rank, transfers[rank]));
      spans += data.count();
    }
  }
  std::vector<std::string> bubbles;
  for (const double b : sum.bubbles) bubbles.push_back(fmt::format("{:.6g}", b));
  return fmt::format(
      "{{\"bubble\":{:.6g},\"bubbles\":[{}],\"formula\":{:.6g},\"formula_of_passes\":{:.6g},\"overlap\":{:.6g},\n"
      "\"step\":{},\"length\":{},\"all_ranks\":{},\"names\":{},\"ranks\":[\n{}]}}",
      sum.all.bubble(), joined(bubbles, ","), sum.formula, sum.formula_of_passes, sum.all.overlap(),
      run.first_step + static_cast<int64_t>(step) + 1, std::llround(1e6 * window.length()), run.timelines.size(),
      names.json(), joined(ranks, ",\n"));
}

}  // namespace gf
