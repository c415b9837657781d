// SPDX-License-Identifier: Apache-2.0
#include "tools/train_command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <sstream>

#include "base/error.h"
#include "base/standard_streams.h"
#include "parallel/gpu_of_rank.h"

namespace gf {
namespace {

namespace po = boost::program_options;

// An argument that stands alone is parsed as this option, to be named when it is refused.
constexpr const char* kAlone = "argument";

po::options_description general_options() {
  po::options_description options(110);
  options.add_options()("config,c", po::value<std::vector<std::string>>()->value_name("FILE"),
                        "YAML or JSON; may be given again, later files override earlier ones key by key");
  options.add_options()("help,h", "print this and end")("version", "print the version and end");
  return options;
}

// One option per key, and the sections that may be absent.
po::options_description key_options(const FieldList& list) {
  po::options_description options;
  for (const Field& field : list.fields()) {
    const auto* section = std::get_if<Section>(&field.target);
    if (section && !section->set_present) continue;
    options.add_options()(field.path.c_str(), po::value<std::string>());
  }
  return options;
}

// --key= sets a key to nothing, which Boost takes for a missing value.
Arguments spelled_out(const Arguments& arguments) {
  Arguments out;
  for (const auto& argument : arguments) {
    const bool empty = argument.starts_with("--") && argument.find('=') == argument.size() - 1;
    out.push_back(empty ? argument.substr(0, argument.size() - 1) : argument);
    if (empty) out.emplace_back();
  }
  return out;
}

std::string given_name(const po::unknown_option& e) {
  std::string name = e.get_option_name();
  name.erase(0, name.find_first_not_of('-'));
  return name;
}

[[noreturn]] void refuse_option(const FieldList& list, const po::unknown_option& e, const std::string& hint) {
  const std::string name = given_name(e), meant = list.nearest(name);
  refuse("there is no option --" + name + (meant.empty() ? "" : "; did you mean --" + meant + "?"), hint);
}

bool given(const po::parsed_options& parsed, std::string_view key) {
  return std::ranges::any_of(parsed.options, [&](const auto& option) { return option.string_key == key; });
}

// Stores the switches alone: a key may be given again, and the last one counts.
void take_switches(const po::parsed_options& parsed, const po::options_description& switches) {
  po::parsed_options own(&switches);
  std::ranges::copy_if(parsed.options, std::back_inserter(own.options),
                       [&](const auto& option) { return switches.find_nothrow(option.string_key, false); });
  po::variables_map values;
  po::store(own, values);
  po::notify(values);
}

ConfigParts sorted_out(const po::parsed_options& parsed, const FieldList& list) {
  ConfigParts given;
  for (const auto& option : parsed.options) {
    const std::string& key = option.string_key;
    if (key == kAlone) refuse("\"" + option.value.at(0) + "\" belongs to no option", "-c FILE for a config file");
    if (key == "config") given.files.emplace_back(option.value.at(0));
    if (list.find(key)) given.settings.push_back({.path = key, .text = option.value.at(0)});
  }
  return given;
}

std::string default_text(const Field& field) {
  if (std::holds_alternative<Section>(field.target)) return "none";
  const std::string text = value_text(field);
  return text.empty() ? "\"\"" : text;
}

}  // namespace

std::optional<ConfigParts> read_command_line(const Arguments& arguments, const ConfigReader& reader, bool speaks) {
  Config defaults;
  const FieldList list(defaults);
  const std::string hint = reader.program + " --help lists all options";
  po::options_description all;
  all.add(general_options()).add(reader.switches).add(key_options(list));
  all.add_options()(kAlone, po::value<std::vector<std::string>>());
  po::positional_options_description positional;
  positional.add(kAlone, -1);
  try {
    po::command_line_parser parser(spelled_out(arguments));
    const auto parsed = parser.options(all).positional(positional).style(kOptionStyle).run();
    const bool help = given(parsed, "help"), version = given(parsed, "version");
    if (help && speaks) print_text_of_output(train_help(reader));
    if (!help && version && speaks) print_output("{} {}\n", reader.program, GF_VERSION);
    if (help || version) return finish_output(), std::nullopt;
    take_switches(parsed, reader.switches);
    return sorted_out(parsed, list);
  } catch (const po::unknown_option& e) {
    refuse_option(list, e, hint);
  } catch (const po::error& e) {
    refuse(e.what(), hint);
  }
}

std::string train_help(const ConfigReader& reader) {
  Config defaults;
  const FieldList list(defaults);
  std::ostringstream out;
  out << "usage: " << reader.program << " [-c FILE]... [--section.key VALUE]...\n\n"
      << general_options() << reader.switches;
  for (const Field& field : list.fields()) {
    if (field.path.empty()) continue;
    const auto* section = std::get_if<Section>(&field.target);
    if (section && !section->set_present) {
      out << fmt::format("\n{}: {}\n", field.path, field.help);
      continue;
    }
    const std::string type = section ? "on|none" : type_name(field);
    out << fmt::format("  --{:<32} {:<9} {:<11} {}\n", field.path, type, default_text(field), field.help);
  }
  return out.str();
}

std::optional<Config> parse_command_line(const Arguments& arguments, const ConfigReader& reader, bool speaks) {
  const std::optional<ConfigParts> given = read_command_line(arguments, reader, speaks);
  if (!given) return std::nullopt;
  Config config = load_config(given->files, given->settings);
  resolve(config, has_gpu());
  check(config);
  return config;
}

}  // namespace gf
