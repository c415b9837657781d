// SPDX-License-Identifier: Apache-2.0
#include "train/run_history.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/error.h"
#include "base/text.h"
#include "base/yaml.h"
#include "io/files.h"
#include "io/run_folder.h"
#include "train/config.h"
#include "train/memory.h"
#include "train/trace_file.h"

namespace gf {
namespace {

constexpr int kMostKeys = 10000, kDeepest = 16;  // a configuration has some hundred, three deep
constexpr int64_t kFinalSteps = 100;

void check_size(int nodes, int depth) {
  if (nodes > kMostKeys || depth > kDeepest)
    refuse(cat("more than ", kMostKeys, " keys, or nested deeper than ", kDeepest));
}

// Before a tree is made of a text, which takes some hundred times the text's memory.
class SizeOfText final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override { add(); }
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override { add(); }
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override { add(); }
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    enter();
  }
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    enter();
  }
  void OnSequenceEnd() override { --open_; }
  void OnMapEnd() override { --open_; }

 private:
  void add() { check_size(++nodes_ / 2, open_); }  // of two in a map one is a key
  void enter() { add(), ++open_; }
  int nodes_ = 0, open_ = 0;
};

// The tree of a text that is not too large for one. Aliases can make more of it yet: see Flat.
YAML::Node tree_of(const std::string& text) {
  std::istringstream in(text);
  SizeOfText size;
  YAML::Parser(in).HandleNextDocument(size);
  return YAML::Load(text);
}

class Flat {
 public:
  std::map<std::string, std::string> of(const YAML::Node& node) {
    add(node, "", 0);
    return std::move(out_);
  }

 private:
  void add(const YAML::Node& node, const std::string& key, int depth) {
    // Lists and nothing count too: of these alone anchors make as many.
    check_size(++nodes_, depth);
    if (node.IsMap()) {
      for (const auto& item : node) {
        if (!item.first.IsScalar()) refuse(cat("a key under ", cited(key), " is not a plain name"));
        add(item.second, cat(key, key.empty() ? "" : ".", item.first.Scalar()), depth + 1);
      }
      // A section that is there, such as model.alibi, in a table beside runs that have none.
      if (node.size() == 0 && !key.empty()) out_[key] = "on";
    } else if (node.IsSequence()) {
      int64_t index = 0;
      for (const auto& item : node) add(item, cat(key, "[", index++, "]"), depth + 1);
    } else if (node.IsScalar() && !key.empty()) {
      out_[key] = node.Scalar();
    }
  }
  std::map<std::string, std::string> out_;
  int nodes_ = 0;
};

// Nothing where the configuration is of another program, or another version of this one.
std::optional<int64_t> parameters_of(const std::string& config_text) {
  try {
    Config config = config_from_text(config_text, "");
    resolve(config);
    config.model.check();
    int64_t sum = 0;
    for (const LayerCount& c : count_parameters(config.model)) sum += c.parameters;
    return sum;
  } catch (const Error&) {
    return {};
  }
}

void load_config(const std::filesystem::path& path, RunHistory& run) {
  if (!std::filesystem::exists(path)) return;  // metrics alone make a report too
  run.config_text = read_small_file(path, kLongestYaml);
  try {
    run.config = Flat().of(tree_of(run.config_text));
  } catch (const YAML::Exception& e) {
    refuse(cat(path.string(), ":", e.mark.line + 1, " is not YAML: ", parser_message(e.msg)));
  } catch (const Error& e) {
    refuse(cat(path.string(), ": ", e.what()));
  }
  run.parameters = parameters_of(run.config_text);
}

// The ends of the stretches of [0, count): every step where there are few.
std::vector<int64_t> cut(int64_t count, int64_t max_rows) {
  std::vector<int64_t> ends;
  if (count <= max_rows) {
    for (int64_t i = 1; i <= count; ++i) ends.push_back(i);
    return ends;
  }
  const int64_t half = max_rows / 2;
  const double n = static_cast<double>(count);
  for (int64_t i = 1; i <= half; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(half);
    ends.push_back(std::llround(n * share));
    ends.push_back(std::llround(std::pow(n, share)));
  }
  std::ranges::sort(ends);
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

Curve thin(const std::vector<StepMetrics>& steps, double StepMetrics::*field, const std::vector<int64_t>& ends) {
  const double memory = static_cast<double>(steps.size()) / 100;
  double sum = 0, weight = 0;
  Curve curve;
  int64_t i = 0;
  for (const int64_t end : ends) {
    double low = steps[i].*field, high = low;
    for (; i < end; ++i) {
      const double value = steps[i].*field;
      // Shorter at the start, where values change most.
      const double keep = std::exp(-1 / std::clamp(static_cast<double>(i) / 50, 0.1, std::max(memory, 0.1)));
      sum = keep * sum + value, weight = keep * weight + 1;
      low = std::min(low, value), high = std::max(high, value);
    }
    curve.smooth.push_back(sum / weight);
    curve.low.push_back(low);
    curve.high.push_back(high);
  }
  return curve;
}

// Skipped ones too, as pointers into the run.
std::vector<const StepMetrics*> in_order(const RunHistory& run) {
  std::vector<const StepMetrics*> all;
  for (const auto* some : {&run.steps, &run.skipped})
    for (const StepMetrics& m : *some) all.push_back(&m);
  std::ranges::sort(all, {}, &StepMetrics::step);
  return all;
}

}  // namespace

RunHistory load_run(const std::filesystem::path& folder) {
  std::error_code error;
  const RunPaths paths(folder);
  const auto metrics = paths.metrics();
  if (!std::filesystem::exists(folder, error))
    refuse(cat("there is no run folder ", folder.string()), "a folder that gf-dist-train has written");
  if (!std::filesystem::exists(metrics, error))
    refuse(cat(folder.string(), " has no metrics.jsonl"), "a folder that gf-dist-train has written");
  RunHistory run;
  run.folder = folder;
  run.name = std::filesystem::absolute(folder / ".").lexically_normal().parent_path().filename().string();
  load_config(paths.config(), run);
  for (StepMetrics& m : read_metrics(metrics)) (m.skipped.empty() ? run.steps : run.skipped).push_back(std::move(m));
  const auto trace = paths.trace();
  if (std::filesystem::exists(trace, error)) {
    run.trace = read_trace(trace);
    if (!run.trace)
      run.trace_note = cat(trace.string(), " was written by another version of gf-dist-train, and is not shown");
  }
  if (const auto positions = paths.positions(); std::filesystem::exists(positions, error))
    run.positions = read_positions(positions);
  return run;
}

RunSummary summarize(const RunHistory& run) {
  RunSummary s;
  for (const StepMetrics* m : in_order(run)) {
    s.steps = m->step + 1, s.tokens = m->tokens;
    if (m->val_loss)
      s.last_val_loss = *m->val_loss, s.best_val_loss = std::min(*m->val_loss, s.best_val_loss.value_or(*m->val_loss));
    if (m->val_acc) s.last_val_acc = m->val_acc;
  }
  if (run.steps.empty()) return s;
  const int64_t count = static_cast<int64_t>(run.steps.size());
  s.loss_steps = std::min(kFinalSteps, count);
  double sum = 0;
  std::vector<double> speeds;
  for (int64_t i = 0; i < count; ++i) {
    const StepMetrics& m = run.steps[i];
    s.seconds += m.step_s;
    speeds.push_back(m.tokens_per_s);
    if (i >= count - s.loss_steps) sum += m.loss;
  }
  s.final_loss = sum / static_cast<double>(s.loss_steps);
  std::ranges::nth_element(speeds, speeds.begin() + count / 2);
  s.tokens_per_s = speeds[count / 2];
  return s;
}

Curves curves(const RunHistory& run, int64_t max_rows) {
  const auto& steps = run.steps;
  const std::vector<int64_t> ends = cut(static_cast<int64_t>(steps.size()), max_rows);
  Curves out;
  double seconds = 0;
  int64_t i = 0;
  for (const int64_t end : ends) {
    for (; i < end; ++i) seconds += steps[i].step_s;
    out.step.push_back(steps[end - 1].step);
    out.tokens.push_back(steps[end - 1].tokens);
    out.seconds.push_back(seconds);
    out.lr.push_back(steps[end - 1].lr);
  }
  out.loss = thin(steps, &StepMetrics::loss, ends);
  out.grad_norm = thin(steps, &StepMetrics::grad_norm, ends);
  out.tokens_per_s = thin(steps, &StepMetrics::tokens_per_s, ends);
  return out;
}

Validations validations(const RunHistory& run, int64_t max_rows) {
  const auto all = in_order(run);
  const auto count = std::ranges::count_if(all, [](const StepMetrics* m) { return m->val_loss.has_value(); });
  const int64_t every = std::max<int64_t>(1, (count + max_rows - 1) / max_rows);
  Validations out;
  double seconds = 0;
  int64_t left = count;
  for (const StepMetrics* m : all) {
    if (m->skipped.empty()) seconds += m->step_s;  // as the curves count them
    if (!m->val_loss || --left % every != 0) continue;
    out.step.push_back(m->step);
    out.tokens.push_back(m->tokens);
    out.seconds.push_back(seconds);
    out.loss.push_back(*m->val_loss);
    out.accuracy.push_back(m->val_acc);
  }
  return out;
}

}  // namespace gf
