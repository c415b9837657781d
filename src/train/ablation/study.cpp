// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/study.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "io/run_folder.h"
#include "train/ablation/same_run.h"
#include "train/build.h"
#include "train/parameters.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

// Makes ready runs of one variant.
class Preparer {
 public:
  Preparer(const Study& study, size_t variant) : study_(study), variant_(variant) {}

  // Nothing where it is left out.
  std::optional<PreparedRun> prepare(int64_t seed, bool wanted, const LeftOut& left_out) {
    PreparedRun p{run_of(study_.ablation, study_.planned, variant_, seed, study_.base)};
    p.folder = run_folder(p.run.config);
    p.wanted = wanted;
    if (study_.has_data) settle(p);
    try {
      if (study_.has_data && !is_the_same(p, left_out)) return std::nullopt;
      // What a run that goes on once began from is not needed any more.
      if (wanted && !newest_checkpoint(RunPaths(p.folder).checkpoints())) check_start();
    } catch (const Error& e) {
      throw Error(cat("variant ", planned().name, ", seed ", seed, ": ", e.what()), e.hint(), e.status(), e.where());
    }
    return p;
  }

 private:
  const PlannedVariant& planned() const { return study_.planned[variant_]; }

  void settle(PreparedRun& p) {
    if (!plan_) plan_.emplace(p.run.config);
    plan_->config.train.seed_everything = p.run.seed;
    p.last_step = plan_->last_step;
  }

  // A run that is there counts as this one, also in the report, and has to be it: another one is refused. -> false
  // where that cannot be seen of a run that is not wanted.
  bool is_the_same(const PreparedRun& p, const LeftOut& left_out) const {
    std::optional<RunThere> there;
    try {
      there = run_in(p.folder);
    } catch (const Error& e) {
      if (p.wanted) throw;
      left_out(p.name(), e);
      return false;
    }
    if (there) check_same_run(*there, p.folder, plan_->config, plan_->data.get(), p.last_step);
    return true;
  }

  // Once for all seeds: they change nothing of it.
  void check_start() {
    if (start_checked_) return;
    open_start(planned().config, LayerStack(planned().config.model).parameters());
    start_checked_ = true;
  }

  const Study& study_;
  const size_t variant_;
  std::optional<Plan> plan_;  // likewise of all seeds
  bool start_checked_ = false;
};

// From which runs of a variant have begun, whoever trained them: those of <folder>/<name>-s<seed>.
std::vector<int64_t> seeds_in(const fs::path& folder, const std::string& variant) {
  const std::string begin = variant + "-s";
  std::vector<int64_t> seeds;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(begin) || !fs::exists(RunPaths(entry.path()).metrics(), none)) continue;
    int64_t seed = -1;
    std::from_chars(name.data() + begin.size(), name.data() + name.size(), seed);
    if (seed >= 0 && name == cat(begin, seed)) seeds.push_back(seed);
  }
  std::ranges::sort(seeds);
  return seeds;
}

}  // namespace

std::vector<PreparedRun> prepare_runs(const Study& study, const WantedRuns& asked, const LeftOut& left_out) {
  const std::vector<int64_t>& wanted = asked.seeds.empty() ? study.ablation.seeds : asked.seeds;
  std::vector<int64_t> seeds = study.ablation.seeds;
  for (const int64_t seed : wanted)
    if (std::ranges::count(seeds, seed) == 0) seeds.push_back(seed);
  std::vector<PreparedRun> all;
  for (size_t v = 0; v < study.planned.size(); ++v) {
    const std::string& name = study.planned[v].name;
    const bool chosen = asked.variants.empty() || std::ranges::count(asked.variants, name) > 0;
    std::vector<int64_t> own = seeds;
    for (const int64_t seed : seeds_in(study.folder(), name))
      if (std::ranges::count(own, seed) == 0) own.push_back(seed);
    Preparer preparer(study, v);
    for (const int64_t seed : own)
      if (auto p = preparer.prepare(seed, chosen && std::ranges::count(wanted, seed) > 0, left_out))
        all.push_back(std::move(*p));
  }
  return all;
}

std::vector<PreparedRun> begun_since(const Study& study, const std::vector<PreparedRun>& known,
                                     const LeftOut& left_out) {
  std::vector<PreparedRun> more;
  for (size_t v = 0; v < study.planned.size(); ++v) {
    Preparer preparer(study, v);
    for (const int64_t seed : seeds_in(study.folder(), study.planned[v].name)) {
      const auto is_it = [&](const PreparedRun& p) { return p.run.variant == v && p.run.seed == seed; };
      if (std::ranges::any_of(known, is_it)) continue;
      try {
        if (auto p = preparer.prepare(seed, false, left_out)) more.push_back(std::move(*p));
      } catch (const Error& e) {
        left_out(cat(study.planned[v].name, "-s", seed), e);
      }
    }
  }
  return more;
}

}  // namespace gf
