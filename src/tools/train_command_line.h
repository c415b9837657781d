// SPDX-License-Identifier: Apache-2.0
// How a run is configured from a command line: -c FILE any number of times, then --section.key VALUE or
// --section.key=VALUE for any key there is. Files come first, whatever the order on the line.
#pragma once
#include <optional>
#include <string>

#include "tools/command_line.h"
#include "train/config.h"

namespace gf {

// Who asks for a config.
struct ConfigReader {
  boost::program_options::options_description switches{};  // options of its own, bound to its variables
  std::string program = "gf-dist-train";
};

// What a command line says of the config; empty where --help or --version was asked for and printed.
std::optional<ConfigParts> read_command_line(const Arguments&, const ConfigReader& = {}, bool speaks = true);

// The config, resolved and checked; empty where --help or --version was asked for and printed. Not `speaks`: they are
// not printed (by other ranks).
std::optional<Config> parse_command_line(const Arguments&, const ConfigReader& = {}, bool speaks = true);

// What --help prints: every option with its type, default and meaning.
std::string train_help(const ConfigReader& = {});

}  // namespace gf
