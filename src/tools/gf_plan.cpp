// SPDX-License-Identifier: Apache-2.0
// gf plan: which layout of ranks a run should have, and what it will be like; on hardware that need not be there.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/human.h"
#include "io/partial_file.h"
#include "parallel/agreement.h"
#include "parallel/rank_model.h"
#include "tools/ranks_main.h"
#include "tools/train_command_line.h"
#include "train/planner/drawing.h"
#include "train/planner/layer_times.h"
#include "train/planner/measure.h"
#include "train/planner/plan_text.h"

namespace gf {
namespace {

namespace po = boost::program_options;

constexpr int64_t kMostRanks = 16384;

struct PlanOptions {
  std::string hardware, measure;
  std::optional<int64_t> ranks, simulate;
  int64_t top = 10;
  bool layout = false;
};

auto number_of(std::optional<int64_t>& option) {
  return po::value<int64_t>()->notifier([&option](int64_t n) { option = n; });
}

po::options_description switches_for(PlanOptions& o) {
  po::options_description switches;
  switches.add_options()("hardware", po::value(&o.hardware)->value_name("FILE"),
                         "what to plan for (configs/hardware/)");
  switches.add_options()("measure", po::value(&o.measure)->value_name("FILE"),
                         "measure this machine with this model, write that as a hardware file, and plan for it; under "
                         "mpirun with all its ranks at once");
  switches.add_options()("ranks", number_of(o.ranks)->value_name("N"), "so many of the hardware's ranks; default: all");
  switches.add_options()("simulate", number_of(o.simulate)->value_name("N"),
                         "as if the hardware had as many nodes as N ranks take, 16384 at most");
  switches.add_options()("layout", po::bool_switch(&o.layout),
                         "only the layout that --parallel.* says, with a drawing of its schedule");
  switches.add_options()("top", po::value(&o.top)->value_name("K")->default_value(10), "so many lines of the table");
  return switches;
}

void check_options(const PlanOptions& o) {
  if (o.hardware.empty() == o.measure.empty())
    refuse(o.hardware.empty() ? "neither --hardware nor --measure is given" : "both --hardware and --measure are given",
           "--hardware configs/hardware/h100.yaml for what need not be there, --measure FILE for this machine");
  if (!o.measure.empty()) output_place(o.measure);  // refused now, not after minutes of measuring
  if (o.ranks && o.simulate) refuse("both --ranks and --simulate are given", "one of them");
  if (!o.measure.empty() && o.ranks)
    refuse("--ranks is given with --measure, which measures all ranks that were started",
           "mpirun -n RANKS gf plan ...");
  for (const auto& [name, value] : {std::pair("ranks", o.ranks), {"simulate", o.simulate}})
    if (value && (*value < 1 || *value > kMostRanks))
      refuse(cat("--", name, " is ", *value, " and must be from 1 to ", kMostRanks), cat("--", name, " 16"));
  if (o.top < 1) refuse(cat("--top is ", o.top, " and must be at least 1"), "--top 10");
}

int64_t ranks_of(const PlanOptions& o, Hardware& hardware) {
  if (o.simulate) {
    hardware.nodes = (*o.simulate + hardware.ranks_per_node - 1) / hardware.ranks_per_node;
    return *o.simulate;
  }
  const int64_t ranks = o.ranks.value_or(hardware.ranks());
  if (ranks > kMostRanks)  // as many as the hardware has: --ranks is held to it already
    refuse(cat(o.hardware, ": nodes times ranks_per_node is ", ranks, " and must be from 1 to ", kMostRanks),
           "--ranks 16");
  if (ranks > hardware.ranks())
    refuse(cat("--ranks is ", ranks, ", and the hardware has ", hardware.ranks(), ": ", counted(hardware.nodes, "node"),
               " of ", hardware.ranks_per_node),
           cat("--simulate ", ranks));
  return ranks;
}

// For what times, memory and messages are reckoned.
std::string machine_of(const TrainConfig& t, const Hardware& h) {
  const bool said = h.accelerator && h.rank.precision;
  return fmt::format("machine  each rank on a {}, in {}{}\n", t.on_gpu() ? "GPU" : "CPU",
                     *t.precision == "32" ? "float32" : *t.precision,
                     said ? "" : "; the hardware file does not say of what accelerator and rank.precision it is");
}

std::string head_of(const Config& config, const Hardware& h, int64_t ranks) {
  std::string flops = human_bytes(h.rank.flops * h.rank.product_share);
  flops.pop_back();  // its prefix is meant
  std::string text =
      fmt::format("hardware {}: {} of {}, {} on a node; each {}FLOP/s in products, {} of memory at {}/s\n", h.name,
                  counted(ranks, "rank"), h.ranks(), h.ranks_per_node, flops, human_bytes(h.rank.memory),
                  human_bytes(h.rank.memory_bandwidth));
  text += machine_of(config.train, h);
  const std::string why = why_not_measured(h, config);
  text += why.empty() ? fmt::format("layers   measured, {} at once, {} each\n", counted(h.measured->ranks, "rank"),
                                    counted(h.measured->threads, "thread"))
                      : fmt::format("layers   reckoned from operations and bytes: {}\n", why);
  text += fmt::format("step     {} sequences of {} tokens, microbatches of {}\n", config.train.global_batch(),
                      config.model.ctx_len, config.train.micro_bsz);
  if (ranks > 1)
    text += "times    one pipeline is simulated; its data ranks do alike, and what they tell each other is added\n";
  return text;
}

[[noreturn]] void refuse_too_large(const PlannedLayout& least, const Hardware& h) {
  refuse(fmt::format("no layout fits: of those, the least needs {} on a rank, which has {}",
                     human_bytes(static_cast<double>(least.forecast.neediest().memory.total())),
                     human_bytes(h.rank.memory)),
         "--train.grad_cp 1, a smaller --train.micro_bsz with more --train.accumulate_grad_batches, or more --ranks");
}

void print_layout(const PlannedLayout& l, const Hardware& h) {
  fmt::print("{}", layout_text(l.config, l.share, l.forecast, &h));
}

// What is to be planned, and for what.
struct Request {
  Config config;
  GivenKeys given;
  Hardware hardware;
};

void plan(const Request& request, const PlanOptions& o) {
  const Config& config = request.config;
  Hardware hardware = request.hardware;
  config.train.groups.check(parameter_names(config.model));
  const int64_t ranks = ranks_of(o, hardware);
  fmt::print("{}", head_of(config, hardware, ranks));
  const LayerTimes times = times_on(hardware, config);
  if (o.layout) {
    StageNeeds needs(config);
    const PlannedLayout layout = plan_layout(config, ranks, hardware, times, needs);
    print_layout(layout, hardware);
    fmt::print("schedule F forward, B backward, b its half for the inputs, w for the weights; then the microbatch\n{}",
               drawing(layout.forecast.simulation, 160));
    if (!layout.fits) refuse_too_large(layout, hardware);
    return;
  }
  const auto layouts = plan_layouts(config, request.given, ranks, hardware, times);
  fmt::print("{}", table_of(layouts, static_cast<size_t>(o.top)));
  if (!layouts[0].fits) refuse_too_large(layouts[0], hardware);
  print_layout(layouts[0], hardware);
  fmt::print("best     {}\n", layouts[0].options());
}

std::string times_table(const LayerTimes& l) {
  std::string text =
      fmt::format("{:<14} {:>10} {:>15} {:>16}\n", "milliseconds", "forward", "backward input", "backward weights");
  for (const auto& [name, t] : {std::pair("embed", l.embed),
                                {"lower", l.lower},
                                {"key_compress", l.key_compress},
                                {"key_expand", l.key_expand},
                                {"upper", l.upper},
                                {"head", l.head}})
    if (t.all() > 0)
      text += fmt::format("{:<14} {:>10.3f} {:>15.3f} {:>16.3f}\n", name, 1e3 * t.forward, 1e3 * t.backward_input,
                          1e3 * t.backward_weight);
  return text;
}

Hardware measure(const Config& config, const PlanOptions& o, const World& world, Communicator& ranks) {
  const auto nodes = ranks.gather_text(world.origin().node());
  std::optional<Hardware> found;
  all_or_none(ranks, [&] { found = measure_hardware(config, ranks, nodes); });
  all_or_none(ranks, [&] {
    if (world.rank() > 0) return;
    write_file_atomically(o.measure, to_yaml(*found), Exit::bad_input);
    fmt::print("{}written to {}\n", times_table(found->measured->layers), o.measure);
  });
  return *found;
}

// Before it is measured: layers are timed on CPUs alone.
Hardware this_machine() {
  Hardware h;
  h.accelerator.emplace("cpu"), h.rank.precision.emplace("32");
  return h;
}

// Empty where --help or --version was asked for.
std::optional<Request> read_request(const Arguments& arguments, PlanOptions& o, bool speaks) {
  const auto parts = read_command_line(arguments, {switches_for(o), "gf plan"}, speaks);
  if (!parts) return std::nullopt;
  check_options(o);
  const bool measures = !o.measure.empty();
  Request r;
  r.config = load_config(parts->files, parts->settings, &r.given);
  r.hardware = measures ? this_machine() : load_hardware(o.hardware);
  plan_on(r.hardware, r.config.train);
  resolve(r.config);
  // Where schedules are tried, the default one does not stand against pieces that only others have.
  ParallelConfig& p = r.config.parallel;
  if (p.pieces > 1 && !o.layout && !r.given.contains("parallel.schedule")) p.schedule = "interleaved";
  check(r.config, Purpose::planning);
  if (const std::string why = why_not_of(r.hardware, r.config.train); !why.empty())
    refuse(cat(measures ? "--measure " + o.measure : o.hardware, ": ", why),
           "--train.accelerator auto --train.precision auto, which follow the file; or one with figures of the other");
  return r;
}

}  // namespace

int run_plan(const Arguments& given) {
  PlanOptions options;
  Arguments arguments = given;
  arguments.insert(arguments.end(), {"--train.data_file", "none"});  // no data is read
  const bool measures = std::any_of(
      given.begin(), given.end(), [](const std::string& a) { return a == "--measure" || a.starts_with("--measure="); });
  if (!measures) {
    if (const auto request = read_request(arguments, options, true)) plan(*request, options);
    return 0;
  }
  return run_on_ranks("gf plan", [&](const OnRanks& on) {
    const auto ranks = on.world.communicator(on.watch);
    std::optional<Request> request;
    all_or_none(*ranks, [&] {
      const HangWatch::Doing doing(on.watch, "reading the configuration");
      request = read_request(arguments, options, on.world.rank() == 0);
      if (request && on.watch) on.watch->set_limit(static_cast<double>(request->config.parallel.hang_seconds));
    });
    check_same_everywhere(*ranks, "what is asked for", request ? "a plan" : "--help or --version");
    if (!request) return 0;
    check_same_everywhere(*ranks, "the configuration", to_yaml(request->config));
    on.world.check_complete();
    request->hardware = measure(request->config, options, on.world, *ranks);
    all_or_none(*ranks, [&] {
      if (on.world.rank() == 0) plan(*request, options);
    });
    return 0;
  });
}

}  // namespace gf
