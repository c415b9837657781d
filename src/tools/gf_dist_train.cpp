// SPDX-License-Identifier: Apache-2.0
// gf-dist-train: trains a model, on one rank or as many as mpirun or srun started.
#include <csignal>
#include <optional>

#include "base/waiting_threads.h"
#include "parallel/agreement.h"
#include "parallel/gpu_of_rank.h"
#include "parallel/hang_watch.h"
#include "tools/command_line.h"
#include "tools/ranks_main.h"
#include "tools/train_command_line.h"
#include "train/run_training.h"

namespace gf {
namespace {

int train(const Arguments& arguments) {
  return run_on_ranks("gf-dist-train", [&](const OnRanks& on) {
    bool dry = false;
    boost::program_options::options_description switches;
    switches.add_options()("dry-run", boost::program_options::bool_switch(&dry),
                           "print what the run would be, and end; changes nothing");
    if (on.world.size() > 1) load_kernels_at_start();
    auto ranks = on.world.communicator(on.watch);
    std::optional<Config> config;
    all_or_none(*ranks, [&] {
      const HangWatch::Doing doing(on.watch, "reading the configuration");
      config = parse_command_line(arguments, {switches}, on.world.rank() == 0);
      if (config && on.watch) on.watch->set_limit(static_cast<double>(config->parallel.hang_seconds));
    });
    check_same_everywhere(*ranks, "what is asked for", !config ? "--help or --version" : dry ? "a dry run" : "a run");
    if (!config) return 0;
    on.world.check_complete();
    return static_cast<int>(run_training(*config, std::move(ranks), on.world.origin(), on.watch, dry, on.tell));
  });
}

}  // namespace
}  // namespace gf

int main(int argc, char** argv) {
  gf::let_waiting_threads_sleep(argv);
  // That nobody reads the output any more (`| head`) is no reason to end a run.
  std::signal(SIGPIPE, SIG_IGN);
  return gf::run_main("gf-dist-train", "a smaller --train.micro_bsz or model",
                      [&] { return gf::train(gf::Arguments(argv + 1, argv + argc)); });
}
