// SPDX-License-Identifier: Apache-2.0
// gf ckpt: looks at checkpoints, verifies them, and carries weights to other programs and back.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iostream>

#include "base/clock.h"
#include "base/error.h"
#include "base/human.h"
#include "base/standard_streams.h"
#include "base/text.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "io/checkpoint/safetensors_shards.h"
#include "tools/command_line.h"
#include "train/imported_config.h"

namespace gf {

namespace po = boost::program_options;

namespace {

constexpr const char* kUsage =
    "usage: gf ckpt info CHECKPOINT\n"
    "       gf ckpt verify CHECKPOINT\n"
    "       gf ckpt export CHECKPOINT OUT.safetensors [--dtype f32|bf16|f16] [--max-shard-size SIZE]\n"
    "       gf ckpt import IN FOLDER [--config FILE]\n\n"
    "Each lists its options with --help.\n"
    "IN: a .safetensors, a .safetensors.index.json, or a .pth (.pt) of torch.save, of which nothing is executed\n"
    "CHECKPOINT: a run folder or its checkpoints folder (the newest one there), a step folder, or a checkpoint.h5\n";

// Adds a required positional argument.
void add_positional(CommandLine& line, const char* name, const char* text) {
  line.positional.add_options()(name, po::value<std::string>()->required(), text);
  line.order.add(name, 1);
}

void print_tensors(const TensorSource& source) {
  constexpr size_t kWidest = 80;  // one long name must not fill all the others' lines
  size_t width = 0;
  for (const auto& e : source.entries()) width = std::max(width, std::min(e.name.size(), kWidest));
  for (const auto& e : source.entries())
    std::cout << fmt::format("  {:<{}}  {}  ", shortened(e.name, e.name.size()), width, name_of(e.dtype)) << e.shape
              << "\n";
}

// Whole lines, without what a terminal obeys. A tab may stand in YAML, where it means no more than a space.
void print_indented(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    std::ranges::replace(line, '\t', ' ');
    std::cout << "  " << shortened(line, line.size()) << "\n";
  }
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
  std::cout << "checkpoint  " << checkpoint.path().string() << "\nprogram     " << shortened(a.program)
            << "\nstep        " << a.step << "\nsamples     " << a.samples << "\ntokens      " << a.tokens
            << "\nparameters  " << parameters << " in " << tensors << " tensors\noptimizer   " << state
            << " values\nfiles       " << checkpoint.num_parts()
            << (checkpoint.num_parts() == 1 ? " part, " : " parts, ")
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

// "5GB", "500MB", "2GiB", or a number of bytes.
int64_t byte_size(const std::string& text) {
  constexpr std::pair<std::string_view, int64_t> kUnits[] = {
      {"", 1},          {"B", 1},         {"KB", 1000},    {"MB", 1000'000}, {"GB", 1000'000'000},
      {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
  int64_t number = 0, bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const auto* found = std::ranges::find(kUnits, unit, &std::pair<std::string_view, int64_t>::first);
  if (error != std::errc() || found == std::end(kUnits) || number <= 0 ||
      __builtin_mul_overflow(number, found->second, &bytes))
    refuse("--max-shard-size is " + text, "a size such as 5GB, 500MB or 2GiB");
  return bytes;
}

int export_to(const Arguments& arguments) {
  CommandLine line{"gf ckpt export CHECKPOINT OUT.safetensors [options]"};
  add_positional(line, "checkpoint", "where the weights are");
  add_positional(line, "out", "the file to write");
  line.options.add_options()("dtype", po::value<std::string>()->value_name("TYPE")->default_value("f32"),
                             "f32, bf16 or f16");
  line.options.add_options()(
      "max-shard-size", po::value<std::string>()->value_name("SIZE")->default_value("5GB"),
      "of the tensors, without the file's header; over it, several files OUT-00001-of-0000N.safetensors "
      "and OUT.safetensors.index.json");
  const po::variables_map values = parse(line, arguments);
  if (values.empty()) return 0;
  const FloatFormat format = float_format(values["dtype"].as<std::string>());
  const int64_t most_bytes = byte_size(values["max-shard-size"].as<std::string>());
  const std::string out = values["out"].as<std::string>();
  // So that nothing but an earlier export is ever replaced.
  if (!out.ends_with(".safetensors")) refuse(out + " is no name of such a file", out + ".safetensors");
  const CheckpointReader checkpoint(values["checkpoint"].as<std::string>());
  const Attributes& a = checkpoint.attributes();
  const Metadata metadata = {{"step", std::to_string(a.step)}, {"config", a.config}};
  const WrittenShards written = write_safetensors_shards(out, checkpoint, format, most_bytes, metadata);
  for (const auto& file : written.files)
    std::cout << file.string() << ": " << human_bytes(static_cast<double>(File::open(file).size())) << "\n";
  for (const auto& file : written.removed) std::cout << file.string() << ": removed, of an older export\n";
  return 0;
}

int import_from(const Arguments& arguments) {
  CommandLine line{"gf ckpt import IN FOLDER [options]"};
  add_positional(line, "in", "where the weights are: a .safetensors, a .safetensors.index.json, a .pth or .pt");
  add_positional(line, "folder", "a new checkpoints folder, to hold step-00000000");
  line.options.add_options()(
      "config", po::value<std::vector<std::string>>()->value_name("FILE"),
      "the model, in YAML, any number, later files override; without it what gf ckpt export put into IN");
  const po::variables_map values = parse(line, arguments);
  if (values.empty()) return 0;
  const std::string in = values["in"].as<std::string>();
  const auto files =
      values.count("config") ? values["config"].as<std::vector<std::string>>() : std::vector<std::string>();
  const std::unique_ptr<TensorSource> source = open_weights(in);
  if (!source) refuse(in + " has the name of no file that can be imported", std::string("one of ") + kWeightFiles);
  Attributes attributes;
  attributes.program = "gf " GF_VERSION;
  const std::filesystem::path folder = values["folder"].as<std::string>(), made = folder / step_folder_name(0);
  if (std::filesystem::exists(folder) && !std::filesystem::is_empty(folder))
    refuse(folder.string() + " is not empty", "a folder that does not exist yet");
  for (const auto& [name, why] : source->unreadable()) refuse(cat(shortened(name), " in ", in, " ", why));
  if (source->entries().empty()) refuse(in + " has no tensors");
  const ImportedConfig config = imported_config(in, files, *source);
  attributes.config = config.text;
  source->verify();
  try {
    create_folder_durably(folder);
  } catch (const Error& e) {
    refuse(e.what(), "a folder that may be written to");
  }
  const auto self = make_self_communicator();
  CheckpointWriter(folder, *self, 0).write(attributes, *source);
  std::cout << made.string() << ": " << source->entries().size() << " tensors, no optimizer state\n";
  if (!config.describes_model)
    print_note(
        "gf ckpt: nothing says what model these weights are of: train.load_model takes them, gf eval, generate "
        "and score do not\n  try: another import with --config, which has model.vocab_size and the rest\n");
  return 0;
}

}  // namespace

int run_ckpt(const Arguments& arguments) {
  const std::string action = arguments.empty() ? "" : arguments[0];
  Arguments rest = arguments;
  if (!rest.empty()) rest.erase(rest.begin());
  if (action == "info") return info(rest);
  if (action == "verify") return verify(rest);
  if (action == "export") return export_to(rest);
  if (action == "import") return import_from(rest);
  if (action == "--help" || action == "-h") return std::fputs(kUsage, stdout), 0;
  refuse(action.empty() ? "no action given" : "there is no action \"" + action + "\"",
         "info, verify, export or import");
}

}  // namespace gf
