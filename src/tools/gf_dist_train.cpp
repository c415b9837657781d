// SPDX-License-Identifier: Apache-2.0
// gf-dist-train: trains a model, on one rank or as many as mpirun or srun started.
#include <csignal>
#include <optional>

#include "base/standard_streams.h"
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

int train(World& world, const Arguments& arguments) {
  return run_on_ranks("gf-dist-train", world, [&] {
    bool dry = false;
    boost::program_options::options_description switches;
    switches.add_options()("dry-run", boost::program_options::bool_switch(&dry),
                           "print what the run would be, and end; changes nothing");
    // Before anything else: ranks may hang from their first words to one another on.
    std::optional<HangWatch> watch;
    if (world.size() > 1)
      watch.emplace(static_cast<double>(ParallelConfig().hang_seconds), [&](const std::string& what) {
        print_note("gf-dist-train: {}, {}\n", world.origin().text(), what);
        world.end_all(static_cast<int>(Exit::failed));
      });
    HangWatch* const watched = watch ? &*watch : nullptr;
    if (world.size() > 1) load_kernels_at_start();
    auto ranks = world.communicator(watched);
    std::optional<Config> config;
    all_or_none(*ranks, [&] {
      const HangWatch::Doing doing(watched, "reading the configuration");
      config = parse_command_line(arguments, {switches}, world.rank() == 0);
      if (config && watch) watch->set_limit(static_cast<double>(config->parallel.hang_seconds));
    });
    check_same_everywhere(*ranks, "what is asked for", config ? "a run" : "--help or --version");
    if (!config) return 0;
    world.check_complete();
    return static_cast<int>(run_training(*config, std::move(ranks), world.origin(), watched, dry));
  });
}

}  // namespace
}  // namespace gf

int main(int argc, char** argv) {
  gf::let_waiting_threads_sleep(argv);
  // That nobody reads the output any more (`| head`) is no reason to end a run.
  std::signal(SIGPIPE, SIG_IGN);
  return gf::run_main("gf-dist-train", "a smaller --train.micro_bsz or model", [&] {
    gf::World world;
    return gf::train(world, gf::Arguments(argv + 1, argv + argc));
  });
}
