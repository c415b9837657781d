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
#include <chrono>
#include <set>
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
#include "train/ablation/study.h"

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
  switches.add_options()(
      "dry-run", po::bool_switch(&o.dry_run),
      "say what each variant costs, check the runs (docs/ablation.md), say what would be trained, and end");
  return switches;
}

// What is told of runs that the report goes without: of each once, however often the report is made.
class Notes {
 public:
  LeftOut left_out() {
    return [this](const std::string& run, const Error& why) {
      if (told_.insert(cat(run, ": ", why.what())).second)
        print_error(cat("gf ablate: ", run, " is not in the report"), why);
    };
  }

 private:
  std::set<std::string> told_;
};

WantedRuns wanted_runs(const AblateOptions& o, const Ablation& ablation) {
  for (const std::string& name : o.only) {
    if (std::ranges::count(ablation.variants, name, &Variant::name) > 0) continue;
    std::string names;
    for (const Variant& v : ablation.variants) names += (names.empty() ? "" : ", ") + v.name;
    refuse(cat("there is no variant ", name, " in ", o.ablation), "--only with one of: " + names);
  }
  return {o.only, o.seeds.empty() ? std::vector<int64_t>{} : seeds_of(o.seeds)};
}

// Of what is there now, whoever trained it.
AblationOutcome outcome_now(const Study& study, const std::vector<PreparedRun>& known, Notes& notes) {
  std::vector<AblationRun> runs;
  std::vector<int64_t> last_steps;
  const std::vector<PreparedRun> more = begun_since(study, known, notes.left_out());
  for (const auto* some : {&known, &more})
    for (const PreparedRun& p : *some) runs.push_back(p.run), last_steps.push_back(p.last_step);
  return outcome_of(study.ablation, study.planned, runs, last_steps, notes.left_out());
}

void print_costs(const std::vector<PlannedVariant>& planned) {
  fmt::print("{:<28} {:>12} {:>8} {:>16} {:>14}\n", "variant", "parameters", "channels", "operations/token",
             "cache B/token");
  for (const PlannedVariant& v : planned)
    fmt::print("{:<28} {:>12} {:>8} {:>16} {:>14.0f}\n", v.name, v.parameters, channel_width(v),
               human_count(v.flops_per_token), v.cache_bytes);
}

// Lines that begin with "run" are for scripts too: launch/ablate.sbatch takes one of them an element of its array.
void print_runs(const Study& study, const std::vector<PreparedRun>& runs) {
  for (const PreparedRun& p : runs) {
    if (!p.wanted) continue;
    fmt::print("run --only {} --seeds {}  # ", study.planned[p.run.variant].name, p.run.seed);
    if (study.has_data)
      fmt::print("{} steps in {}{}\n", p.last_step, p.folder.string(),
                 is_trained(p.folder, p.last_step) ? ", done" : "");
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
  Notes notes;
  print_costs(study.planned);
  const DataList& data = study.planned[0].config.train.data_file;
  study.has_data = is_there(data);
  const std::vector<PreparedRun> all = prepare_runs(study, wanted_runs(options, study.ablation), notes.left_out());
  print_runs(study, all);
  if (study.has_data)
    outcome_now(study, all, notes);  // for what is told of runs that are there
  else
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

std::string result_of(const RunHistory& history) {
  const RunSummary sum = summarize(history);
  std::string text = fmt::format("training loss {:.4f}", sum.final_loss.value_or(0));
  if (sum.last_val_loss) text += fmt::format(", validation loss {:.4f}", *sum.last_val_loss);
  return text + fmt::format(", in {}", human_duration(sum.seconds));
}

// Where gf ablate was killed, its training was asked to stop, and is still taking its step and saving when the same
// command comes again.
void wait_for_folder(const PreparedRun& p, const StopSignal& stop, const std::string& which) {
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

// -> the exit status of its training. What that says goes to FOLDER.log.
int train(const PreparedRun& p, const StopSignal& stop, const std::string& which) {
  const fs::path log = p.folder.string() + ".log";
  fmt::print("{} {}: {} steps, log in {}\n", which, p.name(), p.last_step, log.string());
  std::fflush(stdout);
  const ChildResult result = run_child(program_beside("gf-dist-train"), p.run.arguments, log, stop);
  note_peak(p.folder, result.peak_bytes);
  if (result.status != 0 && result.status != static_cast<int>(Exit::stopped_early))
    print_note("{}gf ablate: {} ended with status {}\n", end_of(log), p.name(), result.status);
  return result.status;
}

// Takes no other run with it, whatever is wrong with this one. -> an exit status.
int train_one(const PreparedRun& p, const StopSignal& stop, const std::string& which, Notes& notes) {
  std::string what;
  try {
    wait_for_folder(p, stop, which);
    if (stop.received() != 0) return static_cast<int>(Exit::stopped_early);
    if (is_trained(p.folder, p.last_step))
      what = "done already: ";
    else if (const int status = train(p, stop, which); status != 0)
      return status;
  } catch (const Error& e) {
    print_error(cat("gf ablate: ", p.name()), e);
    return static_cast<int>(Exit::failed);
  }
  try {
    what += result_of(history_of(p.folder, p.last_step));
  } catch (const Error& e) {
    notes.left_out()(p.name(), e);
    return static_cast<int>(Exit::failed);
  }
  fmt::print("{} {}: {}\n", which, p.name(), what);
  return 0;
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

// Over all runs, whoever trained them; nothing before the first has begun.
void write_report(const Study& study, const std::vector<PreparedRun>& known, Notes& notes) {
  const fs::path folder = study.folder();
  const ReportLock lock(folder);
  const AblationOutcome outcome = outcome_now(study, known, notes);
  if (outcome.histories.empty()) return;
  write_file_atomically(folder / "report.csv", csv_of(outcome), Exit::failed, File::Links::refuse);
  write_file_atomically(folder / "report.html", page_of(outcome), Exit::failed, File::Links::refuse);
}

// The worst of the runs' statuses: a stop ends the whole, a failure only its own run.
int train_all(const Study& study, const std::vector<PreparedRun>& all, Notes& notes) {
  const StopSignal stop;
  const fs::path folder = study.folder();
  create_folder_durably(folder);
  const auto count = std::ranges::count_if(all, &PreparedRun::wanted);
  int64_t number = 0, failed = 0;
  bool stopped = false;
  for (const PreparedRun& p : all) {
    if (!p.wanted) continue;
    const int status = train_one(p, stop, fmt::format("[{}/{}]", ++number, count), notes);
    stopped = status == static_cast<int>(Exit::stopped_early) || stop.received() != 0;
    if (stopped) break;
    failed += status != 0 ? 1 : 0;
    write_report(study, all, notes);
  }
  if (stopped) {
    write_report(study, all, notes);
    fmt::print("stopped; run the same command to go on\n");
    return static_cast<int>(Exit::stopped_early);
  }
  if (fs::exists(folder / "report.html")) fmt::print("{}\n", (folder / "report.html").string());
  if (failed > 0)
    fail(cat(failed, " of ", count, " runs failed or cannot be read"),
         "what is said of each above; the same command tries them again");
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
  if (options.dry_run) return dry_run(study, options);
  Notes notes;
  return train_all(study, prepare_runs(study, wanted_runs(options, ablation), notes.left_out()), notes);
}

}  // namespace gf
