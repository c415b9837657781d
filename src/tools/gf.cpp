// SPDX-License-Identifier: Apache-2.0
// gf: everything but training, one process. Each subcommand is a file of its own, gf_<name>.cpp.
#include <cstdio>
#include <string>

#include "base/error.h"
#include "base/standard_streams.h"
#include "base/waiting_threads.h"
#include "tools/command_line.h"

namespace gf {

#define SUBCOMMAND(name, text) int run_##name(const Arguments&);
#include "tools/subcommands.def"
#undef SUBCOMMAND

namespace {

struct Subcommand {
  const char* name;
  const char* text;
  int (*run)(const Arguments&);
};

constexpr Subcommand kSubcommands[] = {
#define SUBCOMMAND(name, text) {#name, text, run_##name},
#include "tools/subcommands.def"
#undef SUBCOMMAND
    {nullptr, nullptr, nullptr}};

int help() {
  std::puts("usage: gf COMMAND ...\n");
  for (const Subcommand* c = kSubcommands; c->name; ++c) std::printf("  %-10s %s\n", c->name, c->text);
  std::puts(
      "\n  --help     print this and end; gf COMMAND --help lists a command's options\n"
      "  --version  print the version and end");
  return 0;
}

}  // namespace
}  // namespace gf

int main(int argc, char** argv) {
  gf::let_waiting_threads_sleep(argv);
  const std::string name = argc > 1 ? argv[1] : "";
  const auto run = [&] {
    if (name == "--help" || name == "-h" || name == "help") return gf::help();
    if (name == "--version") return std::puts("gf " GF_VERSION), 0;
    for (const gf::Subcommand* c = gf::kSubcommands; c->name; ++c)
      if (name == c->name) return c->run(gf::Arguments(argv + 2, argv + argc));
    gf::refuse(name.empty() ? "no command given" : "there is no command \"" + name + "\"", "gf --help lists them");
  };
  const std::string program = "gf" + (name.empty() || name[0] == '-' ? "" : " " + name);
  return gf::run_main(program, "more memory: ulimit -v and the job's limit say what this process may have", [&] {
    const int status = run();
    // What was asked for goes to standard output; that it got there is part of the work.
    gf::finish_output();
    return status;
  });
}
