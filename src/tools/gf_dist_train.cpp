// SPDX-License-Identifier: Apache-2.0
// gf-dist-train: trains a model, on one rank or as many as mpirun or srun started.
#include <csignal>
#include <optional>

#include "parallel/agreement.h"
#include "tools/command_line.h"
#include "tools/ranks_main.h"
#include "tools/train_command_line.h"
#include "train/run_training.h"

namespace gf {
namespace {

int train(const World& world, const Arguments& arguments) {
  return run_on_ranks("gf-dist-train", world, [&] {
    bool dry = false;
    boost::program_options::options_description switches;
    switches.add_options()("dry-run", boost::program_options::bool_switch(&dry),
                           "print what the run would be, and end; changes nothing");
    std::optional<Config> config;
    const auto read = [&] { config = parse_command_line(arguments, {switches}, world.rank() == 0); };
    all_or_none(*world.communicator(nullptr), read);
    return config ? static_cast<int>(run_training(*config, world, dry)) : 0;
  });
}

}  // namespace
}  // namespace gf

int main(int argc, char** argv) {
  // That nobody reads the output any more (`| head`) is no reason to end a run.
  std::signal(SIGPIPE, SIG_IGN);
  return gf::run_main("gf-dist-train", "a smaller --train.micro_bsz or model", [&] {
    const gf::World world;
    return gf::train(world, gf::Arguments(argv + 1, argv + argc));
  });
}
