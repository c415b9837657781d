// SPDX-License-Identifier: Apache-2.0
// gf ckpt: looks at checkpoints, verifies them, and carries weights to and from .safetensors.
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <cstdio>
#include <iostream>

#include "base/clock.h"
#include "base/error.h"
#include "base/human.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "io/checkpoint/safetensors.h"
#include "tools/command_line.h"
#include "train/parameters.h"

namespace gf {

namespace po = boost::program_options;

namespace {

constexpr const char* kUsage =
    "usage: gf ckpt info CHECKPOINT\n"
    "       gf ckpt verify CHECKPOINT\n"
    "       gf ckpt export CHECKPOINT OUT.safetensors [--dtype f32|bf16|f16]\n"
    "       gf ckpt import IN.safetensors FOLDER [--config FILE]\n\n"
    "Each lists its options with --help.\n"
    "CHECKPOINT: a run folder or its checkpoints folder (the newest one there), a step folder, or a checkpoint.h5\n";

// Adds a required positional argument.
void add_positional(CommandLine& line, const char* name, const char* text) {
  line.positional.add_options()(name, po::value<std::string>()->required(), text);
  line.order.add(name, 1);
}

void print_tensors(const TensorSource& source) {
  size_t width = 0;
  for (const auto& e : source.entries()) width = std::max(width, e.name.size());
  for (const auto& e : source.entries())
    std::cout << fmt::format("  {:<{}}  {}  ", e.name, width, name_of(e.dtype)) << e.shape << "\n";
}

void print_indented(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) std::cout << "  " << line << "\n";
}

int info(const Arguments& arguments) {
  CommandLine line{"gf ckpt info CHECKPOINT"};
  add_positional(line, "checkpoint", "what to look at");
  const po::variables_map values = parse(line, arguments);
  if (values.empty()) return 0;
  const CheckpointReader checkpoint(values["checkpoint"].as<std::string>());
  const Attributes& a = checkpoint.attributes();
  int64_t tensors = 0, parameters = 0, state = 0;
  for (const auto& e : checkpoint.entries()) {
    const bool model = e.name.starts_with(kModelPrefix);
    tensors += model;
    (model ? parameters : state) += e.shape.numel();
  }
  std::cout << "checkpoint  " << checkpoint.path().string() << "\nprogram     " << a.program << "\nstep        "
            << a.step << "\nsamples     " << a.samples << "\ntokens      " << a.tokens << "\nparameters  " << parameters
            << " in " << tensors << " tensors\noptimizer   " << state << " values\nfiles       "
            << checkpoint.num_parts() << (checkpoint.num_parts() == 1 ? " part, " : " parts, ")
            << human_bytes(static_cast<double>(checkpoint.num_bytes())) << "\ntensors\n";
  print_tensors(checkpoint);
  if (!a.data.empty()) std::cout << "data\n";
  print_indented(a.data);
  std::cout << "config\n";
  print_indented(a.config);
  return 0;
}

int verify(const Arguments& arguments) {
  CommandLine line{"gf ckpt verify CHECKPOINT"};
  add_positional(line, "checkpoint", "what to read and compare with its checksums");
  const po::variables_map values = parse(line, arguments);
  if (values.empty()) return 0;
  const CheckpointReader checkpoint(values["checkpoint"].as<std::string>());
  const Stopwatch watch;
  checkpoint.verify();
  std::cout << fmt::format("ok: {} tensors, {} in {} part{}, all checksums right ({:.1f} s)\n",
                           checkpoint.entries().size(), human_bytes(static_cast<double>(checkpoint.num_bytes())),
                           checkpoint.num_parts(), checkpoint.num_parts() == 1 ? "" : "s", watch.seconds());
  return 0;
}

FloatFormat float_format(const std::string& name) {
  if (name == "f32") return FloatFormat::f32;
  if (name == "bf16") return FloatFormat::bf16;
  if (name == "f16") return FloatFormat::f16;
  refuse("--dtype is " + name, "f32, bf16 or f16");
}

int export_to(const Arguments& arguments) {
  CommandLine line{"gf ckpt export CHECKPOINT OUT.safetensors [options]"};
  add_positional(line, "checkpoint", "where the weights are");
  add_positional(line, "out", "the file to write");
  line.options.add_options()("dtype", po::value<std::string>()->value_name("TYPE")->default_value("f32"),
                             "f32, bf16 or f16");
  const po::variables_map values = parse(line, arguments);
  if (values.empty()) return 0;
  const FloatFormat format = float_format(values["dtype"].as<std::string>());
  const std::string out = values["out"].as<std::string>();
  // So that nothing but an earlier export is ever replaced.
  if (!out.ends_with(".safetensors")) refuse(out + " is no name of such a file", out + ".safetensors");
  const CheckpointReader checkpoint(values["checkpoint"].as<std::string>());
  const Attributes& a = checkpoint.attributes();
  write_safetensors(out, checkpoint, format, {{"step", std::to_string(a.step)}, {"config", a.config}});
  std::cout << out << ": " << human_bytes(static_cast<double>(File::open(out).size())) << "\n";
  return 0;
}

// From the file, or as export put it into the weights' file; empty where there is none.
std::string configuration(const po::variables_map& values, const SafetensorsReader& source) {
  const auto metadata = source.metadata().find("config");
  const bool given = values.count("config");
  if (!given && metadata == source.metadata().end()) return "";
  const std::string path = values[given ? "config" : "in"].as<std::string>();
  std::string text = given ? read_small_file(path, 1 << 20) : metadata->second;
  try {
    if (!YAML::Load(text).IsMap()) refuse(path + " is no configuration: it has no keys");
  } catch (const YAML::Exception& e) {
    refuse(path + ": " + e.what());
  }
  return text;
}

int import_from(const Arguments& arguments) {
  CommandLine line{"gf ckpt import IN.safetensors FOLDER [options]"};
  add_positional(line, "in", "where the weights are");
  add_positional(line, "folder", "a new checkpoints folder, to hold step-00000000");
  line.options.add_options()("config", po::value<std::string>()->value_name("FILE"),
                             "YAML; without it the one that gf ckpt export put into IN");
  const po::variables_map values = parse(line, arguments);
  if (values.empty()) return 0;
  Attributes attributes;
  attributes.program = "gf " GF_VERSION;
  const SafetensorsReader source(values["in"].as<std::string>());
  attributes.config = configuration(values, source);
  const std::filesystem::path folder = values["folder"].as<std::string>(), made = folder / step_folder_name(0);
  if (std::filesystem::exists(folder) && !std::filesystem::is_empty(folder))
    refuse(folder.string() + " is not empty", "a folder that does not exist yet");
  if (source.entries().size() != source.all().size())  // asking for what cannot be read names it
    for (const SafetensorsEntry& e : source.all())
      if (const std::string name = std::string(kModelPrefix) + e.name; !source.has(name))
        source.read(std::vector<ShardView>{{name, DType::f32, {}, 0, 0, nullptr}});
  if (!attributes.config.empty()) {
    const std::string from = values[values.count("config") ? "config" : "in"].as<std::string>();
    const Config config = config_from_text(attributes.config, from);
    const auto own = source.metadata().find("config");
    if (values.count("config") && own != source.metadata().end()) {
      const std::string file = values["in"].as<std::string>();
      Config then = config_from_text(own->second, file), now = config;
      const bool whole = then.model.vocab_size > 0 && now.model.vocab_size > 0;
      if (whole) resolve(then), resolve(now);
      for (const Difference& d : whole ? differences_of_models(now, then) : std::vector<Difference>())
        refuse(cat(d.key, " is ", d.now, " in ", from, ", and ", file, " says that it is ", d.then),
               "without --config, or a file that agrees");
    }
    // One that does not say how large the vocabulary is does not describe a model, and open_model() will not take it.
    if (config.model.vocab_size > 0) check_weights_of(source, config);
  }
  std::vector<Tensor> tensors;
  std::vector<ShardView> views;
  for (const auto& e : source.entries()) {
    tensors.push_back(Tensor::empty(e.shape, e.dtype, kCpu));
    views.push_back({e.name, e.dtype, e.shape, 0, e.shape.numel(), tensors.back().raw()});
  }
  if (views.empty()) refuse(values["in"].as<std::string>() + " has no tensors");
  source.read(views);
  try {
    create_folder_durably(folder);
  } catch (const Error& e) {
    refuse(e.what(), "a folder that may be written to");
  }
  const auto self = make_self_communicator();
  CheckpointWriter(folder, *self, 0).write(attributes, views);
  std::cout << made.string() << ": " << views.size() << " tensors, no optimizer state\n";
  return 0;
}

}  // namespace

int run_ckpt(const Arguments& arguments) {
  const std::string action = arguments.empty() ? "" : arguments[0];
  const Arguments rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (action == "info") return info(rest);
  if (action == "verify") return verify(rest);
  if (action == "export") return export_to(rest);
  if (action == "import") return import_from(rest);
  if (action == "--help" || action == "-h") return std::fputs(kUsage, stdout), 0;
  refuse(action.empty() ? "no action given" : "there is no action \"" + action + "\"",
         "info, verify, export or import");
}

}  // namespace gf
