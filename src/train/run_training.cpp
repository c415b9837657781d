// SPDX-License-Identifier: Apache-2.0
#include "train/run_training.h"

#include <fmt/format.h>

#include <cstdlib>
#include <optional>

#include "base/human.h"
#include "base/process_memory.h"
#include "base/signals.h"
#include "base/trace.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/partial_file.h"
#include "train/banner.h"
#include "train/progress_line.h"
#include "train/trainer.h"

namespace gf {
namespace {

// Several ranks that each believe to be the only one would all write into the same folder.
void refuse_many_ranks() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}) {
    const char* const value = std::getenv(variable);
    if (value && std::atoi(value) > 1)
      refuse(cat("this version trains on one rank, and ", variable, " is ", value), "start it alone, or with -n 1");
  }
}

std::string saved_line(const Plan& plan, int64_t step, double seconds) {
  return fmt::format("saved {} in {}", (plan.paths.checkpoints() / step_folder_name(step)).string(),
                     human_duration(seconds));
}

class Loop {
 public:
  Loop(Run& run, const StopSignal& stop)
      : stop_(stop),
        run_(run),
        trainer_(run),
        progress_(ProgressOutput::standard_output(), run.plan.last_step, run.plan.last_step * run.plan.tokens_per_step,
                  run.plan.config.train.log_every_n_steps) {}

  Exit run() {
    const int64_t first = run_.place.step + 1, last = first + run_.plan.config.parallel.trace_steps;
    while (!trainer_.done() && stop_.received() == 0) {
      if (first < last && run_.place.step == first) trace_.emplace();
      progress_.step(trainer_.step());
      say_saved();
      if (run_.place.step == last) write_trace();
    }
    return finish();
  }

 private:
  void say_saved() {
    if (trainer_.saved_step() == said_) return;
    said_ = trainer_.saved_step();
    progress_.say(saved_line(run_.plan, said_, trainer_.save_seconds()));
  }

  void write_trace() {
    if (!trace_) return;
    write_file_atomically(run_.plan.paths.trace(), trace_->json(0));
    trace_.reset();
    progress_.say(fmt::format("trace written to {}", run_.plan.paths.trace().string()));
  }

  Exit finish() {
    const bool complete = trainer_.done();
    trainer_.save();
    say_saved();
    write_trace();  // where the run was shorter
    progress_.finish();
    const std::string memory = human_bytes(static_cast<double>(peak_resident_bytes()));
    if (complete) {
      fmt::print("done: {} steps; peak memory {}\n", run_.place.step, memory);
      return Exit::done;
    }
    fmt::print("stopped by {} after step {}; run the same command to go on\n", stop_.name(), run_.place.step);
    return Exit::stopped_early;
  }

  const StopSignal& stop_;
  Run& run_;
  Trainer trainer_;
  ProgressLine progress_;
  std::optional<Trace> trace_;
  int64_t said_ = -1;  // the last save that was told of
};

}  // namespace

Exit run_training(Config config) {
  refuse_many_ranks();
  const StopSignal
      stop;  // from here on: a signal that comes while the run is still being set up ends it like any other
  Plan plan(std::move(config));
  const MemoryForecast forecast = forecast_memory(plan.config, plan.microbatches, plan.validation_windows);
  fmt::print("gf-dist-train {}\n{}", GF_VERSION, banner(plan, forecast));
  check_memory(plan.config, forecast, available_bytes());
  Run run(plan);
  fmt::print("start    {}{}\n", run.start,
             run.folder->is_exclusive()
                 ? ""
                 : "; this file system has no locks: nothing keeps a second run out of the folder");
  std::fflush(stdout);
  if (plan.config.train.train_stage == 1) {
    if (newest_checkpoint(plan.paths.checkpoints())) {
      fmt::print("nothing to do: the run has parameters already\n");
      return Exit::done;
    }
    Trainer(run).save();
    fmt::print("saved the fresh parameters in {}\n",
               (plan.paths.checkpoints() / step_folder_name(run.place.step)).string());
    return Exit::done;
  }
  if (run.place.step >= plan.last_step) {
    fmt::print("nothing to do: the run is at step {} of {}\n", run.place.step, plan.last_step);
    return Exit::done;
  }
  return Loop(run, stop).run();
}

}  // namespace gf
