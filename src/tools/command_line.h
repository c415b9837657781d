// SPDX-License-Identifier: Apache-2.0
// What all programs and subcommands share: options with help, and the end of a process.
#pragma once
#include <boost/program_options.hpp>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace gf {

using Arguments = std::vector<std::string>;

// How all programs read them. Exact names only: an abbreviation that works today could mean two options tomorrow.
inline constexpr int kOptionStyle = boost::program_options::command_line_style::unix_style &
                                    ~boost::program_options::command_line_style::allow_guessing;

struct CommandLine {
  std::string usage;  // first line of --help
  boost::program_options::options_description options{"options"};
  boost::program_options::options_description positional{"arguments"};  // those given without a name
  boost::program_options::positional_options_description order{};
};

// The values given, all defaults filled in; empty where --help was asked for and printed. A wrong option is
// refused with the names of those there are.
boost::program_options::variables_map parse(const CommandLine&, const Arguments&);

void print_error(const std::string& program, const Error&);  // to standard error, in that form

// Runs a program's body, and takes care that its standard descriptors are open: prints an Error once, in the form
// "program: what / try: hint", and gives the status. Where memory ran out, `memory_hint` is what to try.
int run_main(const std::string& program, const std::string& memory_hint, const std::function<int()>& body);

}  // namespace gf
