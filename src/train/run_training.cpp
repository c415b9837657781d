// SPDX-License-Identifier: Apache-2.0
#include "train/run_training.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <sstream>

#include "base/build_id.h"
#include "base/clock.h"
#include "base/human.h"
#include "base/out_of_memory.h"
#include "base/process_memory.h"
#include "base/process_start.h"
#include "base/signals.h"
#include "base/standard_streams.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "ops/cuda/gemm.h"
#include "parallel/agreement.h"
#include "parallel/gpu_of_rank.h"
#include "train/banner.h"
#include "train/planner/layer_times.h"
#include "train/planner/plan_text.h"
#include "train/planner/settle.h"
#include "train/planner/traffic.h"
#include "train/product_file.h"
#include "train/progress_line.h"
#include "train/run_clock.h"
#include "train/trace_file.h"
#include "train/trainer.h"

namespace gf {
namespace {

// What the first save of a run may take, with what all ranks of a node have to write.
double first_save_s(const Trainer& trainer, Communicator& world, const std::vector<std::string>& nodes) {
  const auto beside = std::ranges::count(nodes, nodes[static_cast<size_t>(world.rank())]);
  return longest_save(largest(world, trainer.save_bytes() * static_cast<double>(beside)));
}

// A pass forward is a third of a step; half of one leaves something to spare.
double validation_steps(const Plan& plan) {
  const auto tokens = static_cast<double>(plan.validation_windows * plan.config.model.ctx_len);
  return tokens / static_cast<double>(plan.tokens_per_step) / 2;
}

std::string saved_line(const Plan& plan, int64_t step, double seconds) {
  return fmt::format("saved {} in {}", (plan.paths.checkpoints() / step_folder_name(step)).string(),
                     human_duration(seconds));
}

// What the saves of a run found that is not theirs.
void tell_notes(Run& run) {
  for (const std::string& note : run.checkpoints->take_notes()) print_note("gf-dist-train: {}\n", note);
}

class Loop {
 public:
  Loop(Run& run, const std::vector<std::string>& nodes, const StopSignal& stop)
      : stop_(stop),
        run_(run),
        nodes_(nodes),
        trainer_(run),
        clock_(run.plan.config.train, process_start(), seconds_now(), first_save_s(trainer_, *run.mesh.world, nodes),
               validation_steps(run.plan)),
        said_(run.saved_step) {
    if (run.first_rank())
      progress_.emplace(ProgressOutput::standard_output(), run.plan.last_step,
                        run.plan.last_step * run.plan.tokens_per_step, run.plan.config.train.log_every_n_steps);
  }

  Exit run() {
    try {
      take_steps();
    } catch (const AgreedError&) {
      run_.optimizer->finish_transfers();
      save_what_is_done();
      throw;
    } catch (const std::exception&) {
      // Of one rank alone: the others are elsewhere, and cannot take part in a save.
      if (run_.mesh.world->size() == 1) save_what_is_done();
      throw;
    }
    run_.optimizer->finish_transfers();
    return finish();
  }

 private:
  void take_steps() {
    const int64_t first = run_.place.step + 1, last = first + run_.plan.config.parallel.trace_steps;
    while (!trainer_.done() && !trainer_.stop_agreed()) {
      if (first < last && run_.place.step == first)
        or_warn([&] { trace_.emplace(run_.plan, *run_.mesh.world, nodes_); });
      const StepMetrics metrics = trainer_.step([this] { return wishes(); });
      if (progress_) progress_->step(metrics);
      say_saved();
      clock_.stepped(seconds_now(), metrics.step_s, trainer_.save_begun());
      if (metrics.val_loss) clock_.validated(trainer_.validation_seconds());
      if (run_.place.step == first) keep_product_choices();
      write_trace(run_.place.step >= last);
    }
  }

  // An error ends the run, but where the state is whole it loses no step.
  void save_what_is_done() {
    if (!trainer_.whole()) return;
    or_warn([&] {
      finish_saving();
      if (run_.place.step == run_.plan.first_step) return;
      trainer_.save();
      finish_saving();
    });
  }

  // Goes on where something fails on all ranks together that a run can do without, and says so once. -> whether all
  // went well.
  template <class Body>
  bool or_warn(const Body& body) const {
    const auto warn = [](const Error& e) { print_note("gf-dist-train: {}\n", e.what()); };
    try {
      body();
      return true;
    } catch (const AgreedError& e) {
      if (e.mine()) warn(e);
    } catch (const Error& e) {
      if (run_.mesh.world->size() > 1) throw;
      warn(e);
    }
    return false;
  }

  // Signals may come to any rank; of the time, the first one's clock counts.
  Trainer::Wishes wishes() {
    Trainer::Wishes w{.stop = stop_.received() != 0};
    if (!run_.first_rank()) return w;
    const double now = seconds_now();
    out_of_time_ = clock_.over(now, trainer_.validations_within(2));
    w.stop = w.stop || out_of_time_;
    w.save = clock_.save_due(now);
    return w;
  }

  void say(const std::string& line) {
    if (progress_) progress_->say(line);
  }

  void say_saved() {
    tell_notes(run_);
    if (run_.saved_step == said_) return;
    said_ = run_.saved_step;
    clock_.saved(trainer_.save_seconds());
    say(saved_line(run_.plan, said_, trainer_.save_seconds()));
  }

  void finish_saving() {
    trainer_.finish_saving();
    say_saved();
  }

  void keep_product_choices() const {
    const std::string& path = run_.plan.config.train.product_choices;
    if (!path.empty()) or_warn([&] { add_to_product_file(path, *run_.mesh.world); });
  }

  // Of the step just taken, the last traced one or not. Where it fails the trace ends, and not the run.
  void write_trace(bool last) {
    if (!trace_) return;
    const bool written = or_warn([&] {
      if (!last) return trace_->write();
      trace_->publish();
      say(fmt::format("trace written to {}", run_.plan.paths.trace().string()));
    });
    if (last || !written) trace_.reset();
  }

  Exit finish() {
    const bool complete = trainer_.done();
    finish_saving();  // what is under way, so that it is told of
    trainer_.save();
    finish_saving();
    keep_product_choices();
    write_trace(true);  // where the run was shorter
    trainer_.check_metrics();
    if (progress_) {
      progress_->finish();
      if (complete)
        print_output("done: {} steps; peak memory {}\n", run_.place.step,
                     human_bytes(static_cast<double>(peak_resident_bytes())));
      else
        print_output("stopped by {} after step {}; run the same command to go on\n",
                     stop_.received() ? stop_.name()
                     : out_of_time_   ? "train.max_minutes"
                                      : "another rank",
                     run_.place.step);
      std::fflush(stdout);  // where the end hangs, and the watch ends it, this has been said
    }
    return complete ? Exit::done : Exit::stopped_early;
  }

  const StopSignal& stop_;
  Run& run_;
  const std::vector<std::string>& nodes_;  // of each rank
  Trainer trainer_;
  RunClock clock_;
  std::optional<ProgressLine> progress_;  // of the first rank
  std::optional<TraceRecorder> trace_;
  int64_t said_;  // the last save that was told of
  bool out_of_time_ = false;
};

// What is out of memory says what needs less.
template <class Body>
Exit with_hint_for_memory(const Body& body) {
  try {
    return body();
  } catch (const OutOfMemory& e) {
    fail(e.what(), "a smaller --train.micro_bsz with more --train.accumulate_grad_batches, or --train.grad_cp 1",
         e.where());
  }
}

// What is said once, by the first rank.
template <class... Args>
void say_once(const Run& run, fmt::format_string<Args...> text, Args&&... args) {
  if (run.first_rank()) print_output(text, std::forward<Args>(args)...);
}

Exit train(Plan& plan, std::unique_ptr<Communicator> world, Device device, const std::vector<std::string>& nodes,
           HangWatch* watch, CheckpointWriter::Mode save_mode, const StopSignal& stop,
           const std::function<void(const std::exception&)>& tell) {
  std::optional<HangWatch::Doing> ending;  // longer than the run, which waits at its end for what it has begun
  Run run(plan, std::move(world), device, watch, save_mode);
  if (run.first_rank()) {
    print_output("start    {}{}\n", run.start,
                 run.folder->is_exclusive()
                     ? ""
                     : "; this file system has no locks: nothing keeps a second run out of the folder");
    for (const std::string& warning : run.warnings) print_output("warning  {}\n", warning);
    std::fflush(stdout);
  }
  if (plan.config.train.train_stage == 1) {
    if (run.saved_step >= 0) {
      say_once(run, "nothing to do: the run has parameters already\n");
      return Exit::done;
    }
    Trainer trainer(run);
    trainer.save();
    trainer.finish_saving();
    tell_notes(run);
    say_once(run, "saved the fresh parameters in {}\n",
             (plan.paths.checkpoints() / step_folder_name(run.place.step)).string());
    return Exit::done;
  }
  if (run.place.step >= plan.last_step) {
    say_once(run, "nothing to do: the run is at step {} of {}\n", run.place.step, plan.last_step);
    return Exit::done;
  }
  const auto end = [&] { ending.emplace(watch, "ending the run, which waits for what it reads ahead"); };
  try {
    const Exit how = with_hint_for_memory([&] { return Loop(run, nodes, stop).run(); });
    end();
    return how;
  } catch (const std::exception& e) {
    tell(e);
    end();
    throw;
  }
}

// What this rank has found where the configuration says that data is: a line for each file.
std::string data_of(const Plan& plan) {
  std::string text;
  const auto add = [&](const BinIdx& file, const std::string& identity) {
    text += cat(file.prefix(), ": ", identity, "\n");
  };
  if (plan.data) {
    std::istringstream lines(plan.data->identity());  // as it was when the data was opened
    std::string line;
    for (const TrainingData::Source& source : plan.data->sources())
      for (const BinIdx& file : source.files.files()) add(file, std::getline(lines, line) ? line : "");
  }
  if (plan.validation) {
    const TokenFiles& files = plan.validation->files();
    for (size_t i = 0; i < files.files().size(); ++i) add(files.files()[i], files.identity(i));
  }
  return text;
}

// The least of all ranks' numbers of bytes.
size_t least(Communicator& ranks, size_t own) {
  return static_cast<size_t>(-largest(ranks, -static_cast<double>(own)));
}

std::string plan_of(const Plan& plan, const Hardware* hardware, size_t available) {
  const Config& c = plan.config;
  StageNeeds needs(c);
  const LayerTimes times = hardware ? times_on(*hardware, c) : fixed_times(c.model);
  const RankShare share = plan.share_of(0);
  LayoutForecast forecast = forecast_layout(c, share, times, needs, hardware);
  forecast.fit(available);
  return layout_text(c, share, forecast, hardware);
}

}  // namespace

Exit run_training(const Config& config, std::unique_ptr<Communicator> ranks, RankOrigin& origin, HangWatch* watch,
                  bool dry, const std::function<void(const std::exception&)>& tell) {
  const StopSignal
      stop;  // from here on: a signal that comes while the run is still being set up ends it like any other
  std::optional<HangWatch::Doing> beginning(std::in_place, watch, "the start");
  check_same_everywhere(*ranks, "the program", "gf-dist-train " GF_VERSION " " + build_id());
  check_same_everywhere(*ranks, "the configuration", to_yaml(config));
  std::optional<Plan> plan;
  std::optional<Hardware> hardware;
  std::optional<MemoryForecast> forecast;
  const auto nodes = ranks->gather_text(origin.node());
  std::optional<GpuShare> gpu;
  if (config.train.on_gpu()) {
    gpu = share_of_gpu(*ranks);
    if constexpr (kWithCuda) cuda::use_tf32(*config.train.precision == "tf32");
    all_or_none(*ranks, [&] {
      if (!config.train.product_choices.empty()) use_product_file(config.train.product_choices);
    });
  }
  const AvailableMemory available = gpu ? AvailableMemory{.bytes = gpu->memory}
                                        : available_memory(kTrainingThreads, std::ranges::count(nodes, origin.node()));
  all_or_none(*ranks, [&] {
    plan.emplace(config, ranks->size());
    if (config.parallel.hardware.empty()) return;
    hardware = load_hardware(config.parallel.hardware, YamlFrom::regular);  // which each rank reads
    if (const std::string why = why_not_of(*hardware, config.train); !why.empty())
      refuse(cat("parallel.hardware ", config.parallel.hardware, ": ", why),
             "a file of what the run is on (gf plan --measure FILE), or no --parallel.hardware");
  });
  check_same_everywhere(*ranks, "the data", data_of(*plan));
  if (hardware) check_same_everywhere(*ranks, "the file of parallel.hardware", to_yaml(*hardware));
  settle_partition(*plan, *ranks, least(*ranks, available.bytes), hardware ? &*hardware : nullptr);
  // The same on all ranks: from the configuration, the data and where all of them run.
  const Placement placement = best_placement(numbered(nodes), sent_by_stages(plan->config, plan->share_of(0)),
                                             plan->data_ranks, plan->config.parallel.pieces);
  ranks = in_places(std::move(ranks), placement);
  origin.set_stage(plan->share_of(ranks->rank()).stage, static_cast<int>(config.parallel.pipeline));
  std::vector<std::string> nodes_of_places;
  for (const int rank : placement.ranks) nodes_of_places.push_back(nodes[rank]);
  all_or_none(*ranks, [&] {
    forecast = forecast_memory(plan->config, plan->share_of(ranks->rank()));
    forecast->fit(available.bytes);
    if (ranks->rank() > 0) return;
    print_output("gf-dist-train {}\n{}", GF_VERSION, banner(*plan, *forecast, placement, gpu ? &*gpu : nullptr));
    if (dry || hardware) print_text_of_output(plan_of(*plan, hardware ? &*hardware : nullptr, available.bytes));
    if (dry) return finish_output();
    std::fflush(stdout);
  });
  all_or_none(*ranks, [&] { check_memory(plan->config, plan->share_of(ranks->rank()), *forecast, available); });
  if (dry) return Exit::done;
  ranks = with_gpus(std::move(ranks), gpu ? &*gpu : nullptr, watch);
  beginning.reset();
  const auto save_mode = forecast->copy > 0 ? CheckpointWriter::Mode::background : CheckpointWriter::Mode::at_once;
  return with_hint_for_memory([&] {
    return train(*plan, std::move(ranks), gpu ? gpu->device : kCpu, nodes_of_places, watch, save_mode, stop, tell);
  });
}

}  // namespace gf
