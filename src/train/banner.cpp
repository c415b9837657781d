// SPDX-License-Identifier: Apache-2.0
#include "train/banner.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <set>

#include "base/human.h"
#include "parallel/schedule/simulation.h"

namespace gf {
namespace {

std::string indented(const std::string& text) {
  std::string out = "  ";
  for (const char c : text) out += c == '\n' ? std::string("\n  ") : std::string(1, c);
  while (out.ends_with(' ') || out.ends_with('\n')) out.pop_back();
  return out + "\n";
}

std::string parameters(const ModelConfig& config) {
  std::string text;
  int64_t total = 0;
  for (const LayerCount& c : count_parameters(config)) {
    text += fmt::format("  {:<24} {:>15}\n", c.kind, c.parameters);
    total += c.parameters;
  }
  return fmt::format("parameters\n{}  {:<24} {:>15}\n", text, "all", total);
}

// What train.groups makes of the parameters.
std::string groups(const Plan& plan) {
  const ParameterGroups& g = plan.config.train.groups;
  if (g.empty()) return "";
  const LayerStack layers(plan.config.model, layout_of(plan.config.model),
                          std::make_shared<ParameterStore>(ParameterStore::kAlign, g.rule()));
  const ParameterStore& store = layers.parameters();
  std::string text = fmt::format("trained  {} of these, {:.1f} %; the others are frozen\n", store.trained_count(),
                                 100 * static_cast<double>(store.trained_count()) / static_cast<double>(store.count()));
  for (size_t i = 0; i < g.groups().size(); ++i) {
    const auto& [match, tuning] = g.groups()[i];
    text += fmt::format("  {:<24} {}: {}\n", match, counted(plan.group_sizes[i], "tensor"),
                        tuning.frozen ? "frozen" : fmt::format("{:g} times the rate", tuning.lr_scale));
  }
  return text;
}

// What is not there all the time: of a validation and a save both, or the larger one.
std::string passing(const MemoryForecast& f) {
  const size_t save = f.saving + f.copy;
  const bool saves = f.meets() || save >= f.validation;
  std::string text;
  if (f.meets() || !saves) text = human_bytes(static_cast<double>(f.validation)) + " validation";
  if (saves) text += (text.empty() ? "" : ", ") + human_bytes(static_cast<double>(f.saving)) + " saving";
  if (f.copy == 0) return text + ", none for a copy: training waits while it is saved";
  if (saves) return text + fmt::format(", {} copied to be saved", human_bytes(static_cast<double>(f.copy)));
  return text + fmt::format(", and less than that, {}, for the save after it", human_bytes(static_cast<double>(save)));
}

std::string memory(const MemoryForecast& f) {
  const std::string reductions =
      f.reductions > 0 ? human_bytes(static_cast<double>(f.reductions)) + " reductions, " : "";
  if (f.on_gpu)
    return fmt::format(
        "memory   {} of the GPU's: {} parameters, {} gradients, {} optimizer, {}{} activations; {} of the CPU's are "
        "copied to, to be saved\n",
        human_bytes(f.more()), human_bytes(f.parameters), human_bytes(f.gradients), human_bytes(f.optimizer),
        reductions, human_bytes(f.activations + f.validation), human_bytes(static_cast<double>(f.copy)));
  return fmt::format(
      "memory   {} in all: {} program and libraries, {} parameters, {} gradients, {} optimizer, {}{} activations, "
      "{}\n",
      human_bytes(f.total()), human_bytes(f.program + f.libraries), human_bytes(f.parameters), human_bytes(f.gradients),
      human_bytes(f.optimizer), reductions, human_bytes(f.activations), passing(f));
}

std::string machine(const TrainConfig& t, const std::vector<int>& nodes, const GpuShare* gpu) {
  const size_t num_nodes = std::set<int>(nodes.begin(), nodes.end()).size();
  if (gpu) {
    const std::string shared =
        gpu->ranks > 1 ? fmt::format("; {} share each, and talk through the CPU's memory", counted(gpu->ranks, "rank"))
        : nodes.size() == 1 ? ""
        : uses_nccl(*gpu)   ? "; they talk over NCCL"
                            : "; they talk through the CPU's memory";
    return fmt::format("machine  {}{} on GPUs, {}, {}{}\n", counted(std::ssize(nodes), "rank"),
                       num_nodes > 1 ? fmt::format(" on {} nodes", num_nodes) : "", gpu->name, *t.precision, shared);
  }
  return fmt::format("machine  {}{} on the CPU, float32, {}{}\n", counted(std::ssize(nodes), "rank"),
                     num_nodes > 1 ? fmt::format(" on {} nodes", num_nodes) : "",
                     counted(omp_get_max_threads(), "thread"), nodes.size() > 1 ? " each" : "");
}

// Who talks to whom, and over what.
std::string layout(const Plan& plan, const Placement& placement) {
  const ParallelConfig& p = plan.config.parallel;
  const int ranks = static_cast<int>(p.pipeline), pieces = static_cast<int>(p.pieces), data = plan.data_ranks;
  std::string text = fmt::format("layout   pipeline {} x data {}; zero {}; {}", ranks, data,
                                 data > 1 ? plan.sharding.zero : 0, placement.text());
  if (ranks > 1) {
    const auto programs = lower(find_schedule(p.schedule), ranks, static_cast<int>(plan.microbatches), pieces);
    const Simulation s = simulate(programs, pieces, unit_costs());
    text +=
        fmt::format("\nstages   blocks {}\nschedule {}: {:.1f} % of the ranks' time idle at best, at most {} in flight",
                    text_of(plan.config.model, plan.partition), p.schedule, 100 * s.bubble(),
                    in_flight_text(s.most_in_flight(), pieces));
  }
  return text + "\n";
}

std::string data(const Plan& plan) {
  const TrainingData& d = *plan.data;
  std::string text = fmt::format("data     {} tokens in {}", human_count(static_cast<double>(d.tokens())),
                                 counted(d.documents(), "document"));
  if (d.files() > 1) text += fmt::format(" of {} files", d.files());
  if (!d.weighted())
    return text +
           fmt::format(", {} samples of {} before one comes again\n", plan.config.train.magic_prime, d.ctx_len());
  text += fmt::format(", mixed by weight{}\n",
                      plan.one_pass ? "; train.my_exit_tokens is as many as one pass over each source has" : "");
  // How often this run goes over each, so that nobody is surprised by what it has learnt by heart.
  const int64_t batch = plan.config.train.global_batch();
  const auto before = d.mixture().counts(plan.first_step * batch), after = d.mixture().counts(plan.last_step * batch);
  for (size_t i = 0; i < d.sources().size(); ++i) {
    const auto& [files, sampler] = d.sources()[i];
    text += fmt::format("  {:>7.3f} %  {}: {} tokens, gone over {:.2f} times in this run\n",
                        100 * d.mixture().shares()[i], files.name(), human_count(static_cast<double>(files.tokens())),
                        static_cast<double>(after[i] - before[i]) / static_cast<double>(sampler.magic_prime()));
  }
  return text;
}

}  // namespace

std::string banner(const Plan& plan, const MemoryForecast& forecast, const Placement& placement, const GpuShare* gpu) {
  const TrainConfig& t = plan.config.train;
  std::string text =
      "configuration\n" + indented(plan.resolved()) + parameters(plan.config.model) + groups(plan) + memory(forecast);
  if (plan.data) text += data(plan);
  if (plan.validation)
    text += fmt::format("valid    {} of {} windows of {} tokens each time\n", plan.validation_windows,
                        plan.validation->windows(), plan.config.model.ctx_len);
  text += fmt::format("step     {} sequences of {} tokens: {} of {}\n", t.global_batch(), plan.config.model.ctx_len,
                      counted(plan.microbatches, "microbatch"), t.micro_bsz);
  text += fmt::format("run      steps {} to {}, {} tokens; the schedule is {} steps, {} tokens long\n", plan.first_step,
                      plan.last_step, human_count(static_cast<double>(plan.last_step * plan.tokens_per_step)),
                      plan.schedule.steps(), human_count(static_cast<double>(t.my_exit_tokens)));
  text += fmt::format(
      "log      a line every {}; its loss and tok/s are means over about ten steps, metrics.jsonl has each\n",
      t.log_every_n_steps == 1 ? "step" : counted(t.log_every_n_steps, "step"));
  text += machine(t, placement.nodes, gpu);
  if (placement.nodes.size() > 1) text += layout(plan, placement);
  text += fmt::format("folder   {}\n", plan.paths.root().string());
  if (!t.wandb.empty())
    text +=
        fmt::format("wandb    nothing is sent from here; python/log_to.py wandb {} sends the metrics to project {}\n",
                    plan.paths.root().string(), t.wandb);
  return text;
}

}  // namespace gf
