// SPDX-License-Identifier: Apache-2.0
#include "tools/command_line.h"

#include <cctype>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>

#include "base/denormals.h"
#include "base/error.h"
#include "base/out_of_memory.h"
#include "base/process_memory.h"
#include "base/standard_streams.h"

namespace gf {

namespace po = boost::program_options;

namespace {

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

void print_help(const CommandLine& line, const po::options_description& visible) {
  std::cout << "usage: " << line.usage << "\n\n";
  for (const auto& argument : line.positional.options())
    std::cout << "  " << upper(argument->long_name()) << ": " << argument->description() << "\n";
  if (!line.positional.options().empty()) std::cout << "\n";
  std::cout << visible;
}

}  // namespace

po::variables_map parse(const CommandLine& line, const Arguments& arguments) {
  po::options_description visible(line.options), all;
  visible.add_options()("help,h", "print this and end");
  all.add(visible).add(line.positional);
  po::variables_map values;
  try {
    po::store(po::command_line_parser(arguments).options(all).positional(line.order).style(kOptionStyle).run(), values);
    if (values.count("help")) {
      print_help(line, visible);
      return {};
    }
    po::notify(values);
  } catch (const po::required_option& e) {
    std::string name = e.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    const bool positional = line.positional.find_nothrow(name, false);
    refuse(positional ? "no " + upper(name) + " given" : "--" + name + " is not given",
           "usage: " + line.usage + " (--help lists all options)");
  } catch (const po::error& e) {
    refuse(e.what(), "usage: " + line.usage + " (--help lists all options)");
  }
  return values;
}

namespace {

void print_message(const std::string& program, const std::string& what, const std::string& hint) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", program.c_str(), what.c_str());
  if (!hint.empty()) std::fprintf(stderr, "  try: %s\n", hint.c_str());
}

}  // namespace

void print_error(const std::string& program, const Error& e) {
  print_message(program, e.what(), e.hint());
  if (e.status() == Exit::failed) std::fprintf(stderr, "  (%s:%d)\n", e.where().file, e.where().line);
}

int run_main(const std::string& program, const std::string& memory_hint, const std::function<int()>& body) {
  // A file size limit is an error of one write, with its message, not a death.
  std::signal(SIGXFSZ, SIG_IGN);
  flush_denormals();
  try {
    hold_standard_descriptors();
    return body();
  } catch (const OutOfMemory& e) {
    print_error(program, Error(e.what(), memory_hint, e.status(), e.where()));
    return static_cast<int>(e.status());
  } catch (const Error& e) {
    print_error(program, e);
    return static_cast<int>(e.status());
  } catch (const std::bad_alloc&) {
    print_message(program, "out of memory, with " + memory_in_use(), memory_hint);
  } catch (const std::exception& e) {
    print_message(program, e.what(), "");
  }
  return static_cast<int>(Exit::failed);
}

}  // namespace gf
