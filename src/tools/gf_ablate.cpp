// SPDX-License-Identifier: Apache-2.0
// gf ablate: trains each variant of a model from each seed, one after another, and writes one report about all of them.
//
// Each training is a process of its own, gf-dist-train: its peak memory is its own, one that fails takes no other with
// it, and it is the run that anybody gets who gives the same options. Runs that are done are left alone and others go
// on from their checkpoints, so the same command goes on where it was stopped; and the runs may as well be started one
// by one (--only, --seeds), as launch/ablate.sbatch does.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <optional>
#include <span>
#include <thread>

#include "base/child_process.h"
#include "base/human.h"
#include "base/standard_streams.h"
#include "base/text.h"
#include "io/files.h"
#include "io/partial_file.h"
#include "io/run_folder.h"
#include "tools/train_command_line.h"
#include "train/ablation/outcome.h"
#include "train/ablation/same_run.h"
#include "train/build.h"

namespace gf {
namespace {

namespace po = boost::program_options;
namespace fs = std::filesystem;

struct AblateOptions {
  std::string ablation, seeds;
  std::vector<std::string> only;
  bool dry_run = false;
};

po::options_description switches_for(AblateOptions& o) {
  po::options_description switches;
  switches.add_options()("ablation,a", po::value(&o.ablation)->value_name("FILE"),
                         "the variants and seeds (configs/ablations/)");
  switches.add_options()("only", po::value(&o.only)->value_name("NAME"), "only this variant; may be given again");
  switches.add_options()("seeds", po::value(&o.seeds)->value_name("1,2,3"), "these in place of the file's");
  switches.add_options()("dry-run", po::bool_switch(&o.dry_run),
                         "say what each variant costs, check all, say what would be trained, and end");
  return switches;
}

// A run with what its data makes of it.
struct Prepared {
  AblationRun run;
  int64_t last_step = 0;
  fs::path folder{};
  bool wanted = true;  // by --only and --seeds

  bool done() const {
    const auto newest = newest_checkpoint(RunPaths(folder).checkpoints());
    return newest && newest->step >= last_step;
  }
  std::string name() const { return folder.filename().string(); }
};

// What is compared.
struct Study {
  Ablation ablation;
  std::vector<PlannedVariant> planned;
  ConfigParts base;
  bool has_data = true;  // false, in a dry run alone: nothing that depends on the data is known or checked

  fs::path folder() const { return folder_of(ablation, planned[0].config); }
};

// Makes ready runs of one variant.
class Preparer {
 public:
  Preparer(const Study& study, size_t variant) : study_(study), variant_(variant) {}

  // A run that is there counts as this one, also in the report, and has to be it.
  Prepared prepare(int64_t seed) {
    const Study& s = study_;
    Prepared p{run_of(s.ablation, s.planned, variant_, seed, s.base)};
    p.folder = run_folder(p.run.config);
    if (!s.has_data) return p;
    if (!plan_) plan_.emplace(p.run.config);
    p.last_step = plan_->last_step;
    plan_->config.train.seed_everything = seed;
    try {
      check_same_run(p.folder, plan_->config, plan_->data.get(), p.last_step);
    } catch (const Error& e) {
      refuse(cat("variant ", s.planned[variant_].name, ", seed ", seed, ": ", e.what()), e.hint());
    }
    return p;
  }

 private:
  const Study& study_;
  const size_t variant_;
  std::optional<Plan> plan_;  // of all seeds: they change nothing else of it
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

// Of all variants, from the seeds of the file and of --seeds, and what is there beside them. Refuses what any of them
// could not train, or what is another run.
std::vector<Prepared> prepare(const Study& study, const AblateOptions& o) {
  const Ablation& ablation = study.ablation;
  const std::vector<PlannedVariant>& planned = study.planned;
  for (const std::string& name : o.only) {
    if (std::ranges::count(ablation.variants, name, &Variant::name) > 0) continue;
    std::string names;
    for (const Variant& v : ablation.variants) names += (names.empty() ? "" : ", ") + v.name;
    refuse(cat("there is no variant ", name, " in ", o.ablation), "--only with one of: " + names);
  }
  const std::vector<int64_t> wanted = o.seeds.empty() ? ablation.seeds : seeds_of(o.seeds);
  std::vector<int64_t> seeds = ablation.seeds;
  for (const int64_t seed : wanted)
    if (std::ranges::count(seeds, seed) == 0) seeds.push_back(seed);
  std::vector<Prepared> all;
  for (size_t v = 0; v < planned.size(); ++v) {
    const bool chosen = o.only.empty() || std::ranges::count(o.only, planned[v].name) > 0;
    std::vector<int64_t> own = seeds;
    for (const int64_t seed : seeds_in(study.folder(), planned[v].name))
      if (std::ranges::count(own, seed) == 0) own.push_back(seed);
    Preparer preparer(study, v);
    for (const int64_t seed : own) {
      Prepared p = preparer.prepare(seed);
      p.wanted = chosen && std::ranges::count(wanted, seed) > 0;
      all.push_back(std::move(p));
    }
  }
  return all;
}

void print_costs(const std::vector<PlannedVariant>& planned) {
  fmt::print("{:<28} {:>12} {:>8} {:>16} {:>14}\n", "variant", "parameters", "channels", "operations/token",
             "cache B/token");
  for (const PlannedVariant& v : planned)
    fmt::print("{:<28} {:>12} {:>8} {:>16} {:>14.0f}\n", v.name, v.parameters, channel_width(v),
               human_count(v.flops_per_token), v.cache_bytes);
}

// Lines that begin with "run" are for scripts too: launch/ablate.sbatch takes one of them an element of its array.
void print_runs(const Study& study, const std::vector<Prepared>& runs) {
  for (const Prepared& p : runs) {
    if (!p.wanted) continue;
    fmt::print("run --only {} --seeds {}  # ", study.planned[p.run.variant].name, p.run.seed);
    if (study.has_data)
      fmt::print("{} steps in {}{}\n", p.last_step, p.folder.string(), p.done() ? ", done" : "");
    else
      fmt::print("not checked: in {}\n", p.folder.string());
  }
}

// Whether any file of the data is there, or none is asked for.
bool is_there(const DataList& data) {
  std::error_code none;
  for (const DataList::Source& source : data.sources())
    for (const std::string& prefix : source.prefixes)
      for (const char* end : {".idx", ".bin"})
        if (fs::status(prefix + end, none).type() != fs::file_type::not_found) return true;
  return data.empty();
}

// What variants cost follows from their configuration: that can be looked at where there is no data, and where the
// runs that it would make are refused.
int dry_run(Study& study, const AblateOptions& options) {
  print_costs(study.planned);
  const DataList& data = study.planned[0].config.train.data_file;
  study.has_data = is_there(data);
  print_runs(study, prepare(study, options));
  if (!study.has_data)
    print_note("gf ablate: train.data_file {} is not there, and nothing that depends on it was checked\n",
               shortened(data.text()));
  return 0;
}

std::string end_of(const fs::path& log) {
  constexpr int64_t kMost = 1000;
  const File file = File::open(log);
  const int64_t size = file.size(), begin = std::max<int64_t>(0, size - kMost);
  std::string text(static_cast<size_t>(size - begin), '\0');
  file.read_at(std::as_writable_bytes(std::span(text)), begin);
  return begin > 0 ? text.substr(text.find('\n') + 1) : text;
}

std::string result_of(const Prepared& p) {
  const RunSummary sum = summarize(load_run(p.folder));
  std::string text = fmt::format("training loss {:.4f}", sum.final_loss.value_or(0));
  if (sum.last_val_loss) text += fmt::format(", validation loss {:.4f}", *sum.last_val_loss);
  return text + fmt::format(", in {}", human_duration(sum.seconds));
}

// Where gf ablate was killed, its training was asked to stop, and is still taking its step and saving when the same
// command comes again.
void wait_for_folder(const Prepared& p, const StopSignal& stop, const std::string& which) {
  for (bool told = false; stop.received() == 0; told = true) {
    const std::string holder = holder_on_this_machine(RunPaths(p.folder));
    if (holder.empty()) return;
    if (!told) {
      fmt::print("{} {}: waits for {} to end, which still writes in {}\n", which, p.name(), holder, p.folder.string());
      std::fflush(stdout);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// -> its exit status. What it says goes to FOLDER.log.
int train_one(const Prepared& p, const StopSignal& stop, const std::string& which) {
  wait_for_folder(p, stop, which);
  if (stop.received() != 0) return static_cast<int>(Exit::stopped_early);
  if (p.done()) {
    fmt::print("{} {}: done already: {}\n", which, p.name(), result_of(p));
    return 0;
  }
  const fs::path log = p.folder.string() + ".log";
  fmt::print("{} {}: {} steps, log in {}\n", which, p.name(), p.last_step, log.string());
  std::fflush(stdout);
  const ChildResult result = run_child(program_beside("gf-dist-train"), p.run.arguments, log, stop);
  note_peak(p.folder, result.peak_bytes);
  if (result.status == 0) fmt::print("{} {}: {}\n", which, p.name(), result_of(p));
  if (result.status != 0 && result.status != static_cast<int>(Exit::stopped_early))
    print_note("{}gf ablate: {} ended with status {}\n", end_of(log), p.name(), result.status);
  return result.status;
}

// Held while a report is made: of several processes, as elements of a job array are, the last one sees what all the
// others have done. Where the file system has no locks, one that comes at the wrong moment is refused its file.
class ReportLock {
 public:
  explicit ReportLock(const fs::path& folder)
      : descriptor_(::open((folder / "report.lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666)) {
    while (descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) {}
  }
  ~ReportLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  ReportLock(const ReportLock&) = delete;
  ReportLock& operator=(const ReportLock&) = delete;

 private:
  int descriptor_;
};

// Those that others have begun meanwhile. What is another run is left out, for the rest of the report is right.
std::vector<Prepared> begun_since(const Study& study, const std::vector<Prepared>& known) {
  std::vector<Prepared> more;
  for (size_t v = 0; v < study.planned.size(); ++v) {
    Preparer preparer(study, v);
    for (const int64_t seed : seeds_in(study.folder(), study.planned[v].name)) {
      const auto is_it = [&](const Prepared& p) { return p.run.variant == v && p.run.seed == seed; };
      if (std::ranges::any_of(known, is_it)) continue;
      try {
        more.push_back(preparer.prepare(seed));
      } catch (const Error& e) {
        print_note("gf ablate: not in the report: {}\n", e.what());
      }
    }
  }
  return more;
}

// Over all runs, whoever trained them; nothing before the first has begun.
void write_report(const Study& study, const std::vector<Prepared>& known) {
  const fs::path folder = study.folder();
  const ReportLock lock(folder);
  std::vector<AblationRun> runs;
  std::vector<int64_t> last_steps;
  const std::vector<Prepared> more = begun_since(study, known);
  for (const auto* some : {&known, &more})
    for (const Prepared& p : *some) runs.push_back(p.run), last_steps.push_back(p.last_step);
  const AblationOutcome outcome = outcome_of(study.ablation, study.planned, runs, last_steps);
  if (outcome.histories.empty()) return;
  write_file_atomically(folder / "report.csv", csv_of(outcome), Exit::failed, File::Links::refuse);
  write_file_atomically(folder / "report.html", page_of(outcome), Exit::failed, File::Links::refuse);
}

// The worst of the runs' statuses: a stop ends the whole, a failure only its own run.
int train_all(const Study& study, const std::vector<Prepared>& all) {
  const StopSignal stop;
  const fs::path folder = study.folder();
  create_folder_durably(folder);
  const auto count = std::ranges::count_if(all, &Prepared::wanted);
  int64_t number = 0, failed = 0;
  bool stopped = false;
  for (const Prepared& p : all) {
    if (!p.wanted) continue;
    const int status = train_one(p, stop, fmt::format("[{}/{}]", ++number, count));
    stopped = status == static_cast<int>(Exit::stopped_early) || stop.received() != 0;
    if (stopped) break;
    failed += status != 0 ? 1 : 0;
    write_report(study, all);
  }
  if (stopped) {
    write_report(study, all);
    fmt::print("stopped; run the same command to go on\n");
    return static_cast<int>(Exit::stopped_early);
  }
  if (fs::exists(folder / "report.html")) fmt::print("{}\n", (folder / "report.html").string());
  if (failed > 0) fail(cat(failed, " of ", count, " runs failed"), "the same command tries them again");
  return 0;
}

}  // namespace

int run_ablate(const Arguments& arguments) {
  AblateOptions options;
  const auto given = read_command_line(arguments, {switches_for(options), "gf ablate"});
  if (!given) return 0;
  if (options.ablation.empty()) refuse("no ablation is given", "-a FILE; configs/ablations/ has some");
  const Ablation ablation = read_ablation(options.ablation);
  Study study{ablation, plan_variants(ablation, *given), *given};
  return options.dry_run ? dry_run(study, options) : train_all(study, prepare(study, options));
}

}  // namespace gf
