// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/outcome.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <sstream>

#include "base/human.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/files.h"
#include "io/partial_file.h"
#include "io/run_folder.h"
#include "train/page_text.h"
#include "train/report.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPeakFile = "peak_bytes.txt";

double peak_of(const fs::path& run_folder) {
  constexpr int64_t kLongest = 100;
  if (!fs::exists(run_folder / kPeakFile)) return 0;
  std::istringstream text(read_small_file(run_folder / kPeakFile, kLongest, "remove it"));
  double bytes = 0;
  return text >> bytes && std::isfinite(bytes) && bytes > 0 ? bytes : 0;
}

std::string or_empty(const std::optional<double>& value) {
  return value ? fmt::format("{:.6g}", *value) : "";
}

// One column: its name in the CSV and on the page, and its text in both.
struct Column {
  const char *key, *title;
  std::function<std::string(const VariantOutcome&)> csv, page;
};

std::string page_spread(const Spread& s) {
  if (s.count == 0) return "&ndash;";
  return fmt::format("{:.4f}", s.mean) + (s.deviation ? fmt::format(" &plusmn; {:.4f}", *s.deviation) : "");
}

std::vector<Column> columns() {
  using V = const VariantOutcome&;
  const auto whole = [](double v) { return fmt::format("{:.0f}", v); };
  return {
      {"parameters", "Parameters", [=](V v) { return whole(static_cast<double>(v.parameters)); },
       [](V v) { return human_count(static_cast<double>(v.parameters)); }},
      {"channel_width", "Channel width", [](V v) { return std::to_string(v.channel_width); },
       [](V v) { return std::to_string(v.channel_width); }},
      {"training_flops_per_token", "Operations a token", [=](V v) { return whole(v.flops_per_token); },
       [](V v) { return human_count(v.flops_per_token); }},
      {"tokens_per_s", "Tokens/s",
       [](V v) { return v.tokens_per_s.count ? fmt::format("{:.6g}", v.tokens_per_s.mean) : ""; },
       [](V v) { return v.tokens_per_s.count ? human_count(v.tokens_per_s.mean) : "&ndash;"; }},
      {"peak_memory_bytes", "Peak memory", [=](V v) { return v.peak_bytes > 0 ? whole(v.peak_bytes) : ""; },
       [](V v) { return v.peak_bytes > 0 ? human_bytes(v.peak_bytes) : "&ndash;"; }},
      {"cache_bytes_per_token", "Cache bytes a token", [=](V v) { return whole(v.cache_bytes); },
       [=](V v) { return whole(v.cache_bytes); }},
      {"runs_done", "Runs done", [](V v) { return std::to_string(v.done); },
       [](V v) { return fmt::format("{} of {}", v.done, v.runs); }},
      {"train_loss", "Training loss, last steps",
       [](V v) { return v.train_loss.count ? fmt::format("{:.6f}", v.train_loss.mean) : ""; },
       [](V v) { return page_spread(v.train_loss); }},
      {"train_loss_deviation", nullptr, [](V v) { return or_empty(v.train_loss.deviation); }, {}},
      {"val_loss", "Validation loss",
       [](V v) { return v.val_loss.count ? fmt::format("{:.6f}", v.val_loss.mean) : ""; },
       [](V v) { return page_spread(v.val_loss); }},
      {"val_loss_deviation", nullptr, [](V v) { return or_empty(v.val_loss.deviation); }, {}},
  };
}

// The table of variants, in their order.
std::string table_of(const AblationOutcome& a) {
  std::string head = "<th>Variant</th>", rows;
  const auto all = columns();
  for (const Column& c : all)
    if (c.title) head += fmt::format("<th>{}</th>", c.title);
  for (size_t i = 0; i < a.variants.size(); ++i) {
    rows += fmt::format("<tr><th><i class=\"swatch\" style=\"--color: var(--run-{})\"></i>{}</th>", i % 8,
                        escaped(a.variants[i].name));
    for (const Column& c : all)
      if (c.title) rows += fmt::format("<td>{}</td>", c.page(a.variants[i]));
    rows += "</tr>\n";
  }
  return fmt::format(
      "<h2>Variants</h2>\n<div class=\"table\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n"
      "<p class=\"note\">Losses: mean over the seeds of the runs that are done, and the standard deviation of a sample "
      "of "
      "that many. Operations: of a forward and a backward pass, as the ops count them. Peak memory: the largest "
      "resident "
      "size of a training process. Cache: what a token adds to the state from which text is generated, in bf16.</p>\n"
      "<h2>Runs</h2>\n",
      head, rows);
}

}  // namespace

Spread spread_of(std::span<const double> values) {
  Spread s;
  s.count = std::ssize(values);
  if (s.count == 0) return s;
  for (const double v : values) s.mean += v;
  s.mean /= static_cast<double>(s.count);
  if (s.count == 1) return s;
  double squares = 0;
  for (const double v : values) squares += (v - s.mean) * (v - s.mean);
  s.deviation = std::sqrt(squares / static_cast<double>(s.count - 1));
  return s;
}

bool is_trained(const fs::path& run_folder, int64_t last_step) {
  const auto newest = newest_checkpoint(RunPaths(run_folder).checkpoints());
  return newest && newest->step >= last_step;
}

RunHistory history_of(const fs::path& run_folder, int64_t last_step) {
  const fs::path metrics = RunPaths(run_folder).metrics();
  const auto advice = [&](const char* first) {
    return cat(first, "; or remove ", run_folder.string(), " to train it anew");
  };
  try {
    const bool trained = is_trained(run_folder, last_step);  // first: a run that ends meanwhile has its metrics before
    if (!fs::exists(metrics)) refuse(cat("there is no ", metrics.string()), advice("the file as it was"));
    RunHistory history = load_run(run_folder);
    const int64_t steps = summarize(history).steps;
    if (trained && steps < last_step)
      refuse(cat(metrics.string(), " ends at step ", steps, ", and the run has a checkpoint of step ", last_step),
             advice("the file as it was"));
    return history;
  } catch (const Error& e) {
    throw Error(e.what(), e.hint().empty() ? advice("mend that file") : e.hint(), e.status(), e.where());
  }
}

AblationOutcome outcome_of(const Ablation& ablation, const std::vector<PlannedVariant>& planned,
                           std::span<const AblationRun> runs, std::span<const int64_t> last_steps,
                           const LeftOut& left_out) {
  AblationOutcome a{ablation.name, {}, {}, {}};
  for (size_t variant = 0; variant < planned.size(); ++variant) {
    const PlannedVariant& p = planned[variant];
    VariantOutcome v{.name = p.name, .parameters = p.parameters, .channel_width = channel_width(p)};
    v.flops_per_token = p.flops_per_token, v.cache_bytes = p.cache_bytes;
    std::vector<double> val_losses, train_losses, speeds;
    for (size_t i = 0; i < runs.size(); ++i) {
      if (runs[i].variant != variant) continue;
      ++v.runs;
      const fs::path folder = run_folder(runs[i].config);
      try {
        if (!fs::exists(RunPaths(folder).metrics()) && !is_trained(folder, last_steps[i])) continue;
        RunHistory history = history_of(folder, last_steps[i]);
        v.peak_bytes = std::max(v.peak_bytes, peak_of(folder));
        a.histories.push_back(std::move(history));
      } catch (const Error& e) {
        left_out(folder.filename().string(), e);
        continue;
      }
      a.series.push_back(variant);
      const RunHistory& history = a.histories.back();
      const RunSummary sum = summarize(history);
      if (!history.steps.empty()) speeds.push_back(sum.tokens_per_s);
      if (sum.steps >= last_steps[i]) {
        ++v.done;
        if (sum.final_loss) train_losses.push_back(*sum.final_loss);
        if (sum.last_val_loss) val_losses.push_back(*sum.last_val_loss);
      }
    }
    v.val_loss = spread_of(val_losses), v.train_loss = spread_of(train_losses), v.tokens_per_s = spread_of(speeds);
    a.variants.push_back(std::move(v));
  }
  return a;
}

std::string csv_of(const AblationOutcome& a) {
  const auto all = columns();
  std::string text = "variant";
  for (const Column& c : all) text += cat(",", c.key);
  text += "\n";
  for (const VariantOutcome& v : a.variants) {
    text += v.name;  // no comma and no quote is in it
    for (const Column& c : all) text += "," + c.csv(v);
    text += "\n";
  }
  return text;
}

std::string page_of(const AblationOutcome& a) {
  ReportFrame frame{a.name, table_of(a), a.series, {}};
  for (const VariantOutcome& v : a.variants) frame.series_names.push_back(v.name);
  return report_page(a.histories, frame);
}

void note_peak(const fs::path& run_folder, size_t bytes) {
  if (!fs::is_directory(run_folder) || static_cast<double>(bytes) <= peak_of(run_folder)) return;
  write_file_atomically(run_folder / kPeakFile, cat(bytes, "\n"), Exit::failed, File::Links::refuse);
}

}  // namespace gf
