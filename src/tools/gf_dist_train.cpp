// SPDX-License-Identifier: Apache-2.0
// gf-dist-train: trains a model.
#include <csignal>

#include "tools/command_line.h"
#include "tools/train_command_line.h"
#include "train/run_training.h"

int main(int argc, char** argv) {
  // That nobody reads the output any more (`| head`) is no reason to end a run.
  std::signal(SIGPIPE, SIG_IGN);
  return gf::run_main("gf-dist-train", [&] {
    const auto config = gf::parse_command_line(gf::Arguments(argv + 1, argv + argc));
    return config ? static_cast<int>(gf::run_training(*config)) : 0;
  });
}
