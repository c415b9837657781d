// SPDX-License-Identifier: Apache-2.0
// gf data: makes data sets and tells what is in them.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/human.h"
#include "base/progress.h"
#include "base/text.h"
#include "io/data/mqar.h"
#include "io/data/sampler.h"
#include "io/data/token_files.h"
#include "io/text/tokenize.h"
#include "tools/command_line.h"

namespace gf {
namespace {

namespace po = boost::program_options;

void print_part(const std::string& prefix, const TokenizedPart& part, const TokenizeOptions& options,
                const Vocabulary& vocabulary) {
  fmt::print("{}: {} tokens in {}, {}vocab_size {}\n", prefix, part.tokens, counted(part.documents, "document"),
             options.pairs() ? cat(part.marked, " marked, ") : "", vocabulary.size());
}

void print_report(const TokenizeOptions& options, const TokenizeReport& report, const Vocabulary& vocabulary,
                  double seconds) {
  print_part(options.out, report.train, options, vocabulary);
  if (options.validation > 0) print_part(options.validation_out, report.validation, options, vocabulary);
  fmt::print("read {} ({} bytes) of {} in {:.1f} s, {:.1f} MB/s\n", human_bytes(static_cast<double>(report.bytes)),
             report.bytes, counted(report.files, "file"), seconds,
             static_cast<double>(report.bytes) / 1e6 / std::max(seconds, 1e-9));
  if (report.binary_files > 0)
    fmt::print("left out {} no text: --binary takes them\n",
               counted(report.binary_files, "file") + (report.binary_files == 1 ? " that is" : " that are"));
  if (report.empty_documents > 0) fmt::print("left out {}\n", counted(report.empty_documents, "empty document"));
}

int run_tokenize(const Arguments& arguments) {
  TokenizeOptions options;
  std::string vocab;
  CommandLine line{.usage = "gf data tokenize --vocab byte|FILE --out PREFIX [options] PATH..."};
  auto option = line.options.add_options();
  option("vocab", po::value(&vocab)->value_name("VOCAB")->required(),
         "byte, or a vocabulary file in the RWKV World format");
  option("out", po::value(&options.out)->value_name("PREFIX")->required(), "the data set: PREFIX.bin and PREFIX.idx");
  option("key", po::value(&options.key)->value_name("NAME")->default_value("text"),
         "where a line of a .jsonl file has its text");
  option("prompt-key", po::value(&options.prompt_key)->value_name("NAME"),
         "where a line of a .jsonl file has a prompt; with --answer-key and instead of --key");
  option("answer-key", po::value(&options.answer_key)->value_name("NAME"),
         "where it has the answer: PREFIX.mask.bin marks its tokens for train.loss_mask 1");
  option("validation", po::value(&options.validation)->value_name("SHARE")->default_value(0),
         "share of the documents to hold out");
  option("validation-out", po::value(&options.validation_out)->value_name("PREFIX"),
         "PREFIX of the data set of those held out");
  option("binary", po::bool_switch(&options.binary), "take files with zero bytes too");
  line.positional.add_options()("path", po::value(&options.paths)->required(),
                                "text files, .jsonl files, and folders of them");
  line.order.add("path", -1);
  const auto values = parse(line, arguments);
  if (values.empty()) return 0;
  if (options.pairs() && !values["key"].defaulted())
    refuse("--key and --prompt-key are both given", "--key for texts, --prompt-key and --answer-key for pairs");

  const auto vocabulary = Vocabulary::open(vocab);
  const auto files = tokenize_inputs(options);
  int64_t total = 0;
  for (const InputFile& file : files) total += file.bytes;
  const Stopwatch clock;
  TokenizeReport report;
  {
    Progress progress("tokenize", total);
    report = tokenize(*vocabulary, options, files, [&](int64_t bytes) { progress.advance(bytes); });
  }
  print_report(options, report, *vocabulary, clock.seconds());
  return 0;
}

// Reads all tokens, which also shows that they can be read.
int32_t largest_token(const BinIdx& data, Progress& progress) {
  std::vector<int32_t> piece(1 << 18);
  int32_t largest = -1;
  for (int64_t done = 0; done < data.tokens(); done += static_cast<int64_t>(piece.size())) {
    const auto count = static_cast<size_t>(std::min<int64_t>(data.tokens() - done, static_cast<int64_t>(piece.size())));
    const auto part = std::span(piece).first(count);
    data.read(done, part);
    largest = std::max(largest, std::ranges::max(part));
    progress.advance(static_cast<int64_t>(count) * data.type().size);
  }
  return largest;
}

// Verifies each file. -> the largest token of all.
int32_t read_through(const TokenFiles& data) {
  int64_t bytes = 0;
  for (const BinIdx& file : data.files()) bytes += file.tokens() * file.type().size;
  for (const BinIdx& file : data.files()) file.verify();
  Progress progress("read", bytes);
  int32_t largest = -1;
  for (const BinIdx& file : data.files()) largest = std::max(largest, largest_token(file, progress));
  return largest;
}

std::string types_of(const TokenFiles& data) {
  std::set<std::string> types;
  for (const BinIdx& file : data.files()) types.insert(file.type().name);
  return joined(types);
}

// How many tokens the masks mark; nothing where there are none. Reads them all. Some files with and some without one
// would not do for a run.
std::optional<int64_t> marked_tokens(const std::vector<std::string>& prefixes, const TokenFiles& data) {
  const auto has_mask = [](const std::string& prefix) { return std::filesystem::exists(LossMask::path_of(prefix)); };
  const auto lacks = std::ranges::find_if_not(prefixes, has_mask);
  if (std::ranges::none_of(prefixes, has_mask)) return std::nullopt;
  if (lacks != prefixes.end())
    refuse(LossMask::path_of(*lacks) + " is not there, and others of these data sets have a mask",
           "data sets that all have one, or none");
  int64_t marked = 0;
  for (const BinIdx& file : data.files()) marked += LossMask(file).count(0, file.tokens());
  return marked;
}

int run_info(const Arguments& arguments) {
  std::vector<std::string> prefixes;
  int64_t ctx_len = 0;
  CommandLine line{.usage = "gf data info PREFIX... [--ctx-len N]"};
  line.options.add_options()("ctx-len", po::value(&ctx_len)->value_name("N")->default_value(1024),
                             "tokens in a sample, for magic_prime and my_exit_tokens");
  line.positional.add_options()("prefix", po::value(&prefixes)->required(),
                                "of PREFIX.idx and PREFIX.bin; several are counted as one");
  line.order.add("prefix", -1);
  if (parse(line, arguments).empty()) return 0;
  if (ctx_len < 1) refuse(cat("--ctx-len ", ctx_len, " is no length"), "1 or more");

  const TokenFiles data(prefixes);
  const int32_t largest = read_through(data);
  if (data.files().size() > 1) fmt::print("files: {}\n", data.files().size());
  fmt::print("tokens: {}\ndocuments: {}\nsequences: {}\ndtype: {}\nlargest_token: {}\n", data.tokens(),
             data.documents(), data.sequences(), types_of(data), largest);
  if (const auto marked = marked_tokens(prefixes, data)) fmt::print("marked: {}\n", *marked);
  const Sampler sampler(data.tokens(), ctx_len);
  fmt::print("ctx_len: {}\nmagic_prime: {}\nmy_exit_tokens: {}\n", ctx_len, sampler.magic_prime(),
             sampler.tokens_per_pass());
  return 0;
}

int run_mqar(const Arguments& arguments) {
  MqarOptions options;
  CommandLine line{.usage = "gf data mqar --length N --pairs N --examples N --out PREFIX [options]"};
  auto option = line.options.add_options();
  option("vocab-size", po::value(&options.vocab_size)->value_name("N")->default_value(options.vocab_size),
         "keys are of the lower half, values of the upper half");
  option("length", po::value(&options.length)->value_name("N")->default_value(options.length),
         "tokens of an example: the model.ctx_len to train with");
  option("pairs", po::value(&options.pairs)->value_name("N")->default_value(options.pairs),
         "pairs of a key and a value, each key asked for once");
  option("examples", po::value(&options.examples)->value_name("N")->required(), "how many");
  option("seed", po::value(&options.seed)->value_name("N")->default_value(0), "another number, other examples");
  option("out", po::value(&options.out)->value_name("PREFIX")->required(),
         "the data set: PREFIX.bin, PREFIX.idx and PREFIX.mask.bin, which marks the values asked for");
  option("windows", po::bool_switch(&options.windows),
         "an example every --length + 1 tokens, as gf eval and validations read; else as training reads");
  if (parse(line, arguments).empty()) return 0;
  check(options);
  Progress progress("mqar", options.examples, stderr, "examples");
  write_mqar(options, [&](int64_t examples) { progress.advance(examples); });
  fmt::print("{}: {} of {} tokens, {} marked, vocab_size {}\n", options.out, counted(options.examples, "example"),
             options.length, options.examples * options.pairs, options.vocab_size);
  fmt::print("read them with model.ctx_len {} in {}\n", options.length,
             options.windows ? "gf eval and validations; for training, leave out --windows"
                             : "training; for gf eval and validations, make others with --windows");
  return 0;
}

constexpr const char* kHelp =
    "usage: gf data tokenize --vocab byte|FILE --out PREFIX [options] PATH...\n"
    "         text files to a data set\n"
    "       gf data info PREFIX... [--ctx-len N]\n"
    "         what is in a data set, or in several as one, and the magic_prime for it\n"
    "       gf data mqar --length N --pairs N --examples N --out PREFIX [options]\n"
    "         a recall task: pairs of tokens, and which of them belong together\n\n"
    "Each lists its options with --help.\n";

}  // namespace

int run_data(const Arguments& arguments) {
  const std::string command = arguments.empty() ? "" : arguments.front();
  if (command == "--help" || command == "-h") return fmt::print("{}", kHelp), 0;
  Arguments rest = arguments;
  if (!rest.empty()) rest.erase(rest.begin());
  if (command == "tokenize") return run_tokenize(rest);
  if (command == "info") return run_info(rest);
  if (command == "mqar") return run_mqar(rest);
  refuse(command.empty() ? "no command given" : "there is no command \"" + command + "\"",
         "gf data tokenize, gf data info, gf data mqar");
}

}  // namespace gf
