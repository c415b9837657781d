// SPDX-License-Identifier: Apache-2.0
// gf-dist-train: trains a model, on one rank or as many as mpirun or srun started.
#include <csignal>
#include <cstdio>
#include <optional>

#include "parallel/agreement.h"
#include "parallel/communicator_mpi.h"
#include "tools/command_line.h"
#include "tools/train_command_line.h"
#include "train/run_training.h"

namespace gf {
namespace {

// On many ranks a message says whose it is, and is printed once: where all failed alike, by the one that it is about.
// Where one failed alone, the others must be ended, or they would wait for it for ever.
int train(const World& world, const Arguments& arguments) {
  const auto say = [&](const Error& e) {
    print_error("gf-dist-train", e);
    if (world.size() > 1)
      std::fprintf(stderr, "  (rank %d of %d on %s)\n", world.rank(), world.size(), world.node().c_str());
  };
  try {
    bool dry = false;
    boost::program_options::options_description switches;
    switches.add_options()("dry-run", boost::program_options::bool_switch(&dry),
                           "print what the run would be, and end; changes nothing");
    std::optional<Config> config;
    const auto read = [&] { config = parse_command_line(arguments, switches, world.rank() == 0); };
    all_or_none(*world.communicator(nullptr), read);
    return config ? static_cast<int>(run_training(*config, world, dry)) : 0;
  } catch (const AgreedError& e) {
    if (e.mine()) say(e);
    return static_cast<int>(e.status());
  } catch (const Error& e) {
    if (world.size() == 1) throw;
    say(e);
    world.end_all(static_cast<int>(e.status()));
  } catch (const std::exception& e) {
    if (world.size() == 1) throw;
    say(Error(e.what(), "", Exit::failed, Where::here()));
    world.end_all(static_cast<int>(Exit::failed));
  }
}

}  // namespace
}  // namespace gf

int main(int argc, char** argv) {
  // That nobody reads the output any more (`| head`) is no reason to end a run.
  std::signal(SIGPIPE, SIG_IGN);
  return gf::run_main("gf-dist-train", [&] {
    const gf::World world;
    return gf::train(world, gf::Arguments(argv + 1, argv + argc));
  });
}
