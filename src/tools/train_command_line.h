// SPDX-License-Identifier: Apache-2.0
// How a run is configured from a command line: -c FILE any number of times, then --section.key VALUE or
// --section.key=VALUE for any key there is. Files come first, whatever the order on the line.
#pragma once
#include <optional>
#include <string>

#include "tools/command_line.h"
#include "train/config.h"

namespace gf {

// The config, resolved and checked; empty where --help or --version was asked for and printed. `switches` are a
// program's own options, bound to its variables (bool_switch(&dry_run)).
// Not `speaks`: they are not printed (by other ranks).
std::optional<Config> parse_command_line(const Arguments&,
                                         const boost::program_options::options_description& switches = {},
                                         bool speaks = true);

// What --help prints: every option with its type, default and meaning.
std::string train_help(const boost::program_options::options_description& switches = {});

}  // namespace gf
