// SPDX-License-Identifier: Apache-2.0
// gf data: makes data sets and tells what is in them.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/human.h"
#include "base/progress.h"
#include "base/text.h"
#include "io/data/sampler.h"
#include "io/data/token_files.h"
#include "io/text/tokenize.h"
#include "tools/command_line.h"

namespace gf {
namespace {

namespace po = boost::program_options;

void print_part(const std::string& prefix, const TokenizedPart& part, const Vocabulary& vocabulary) {
  fmt::print("{}: {} tokens in {}, vocab_size {}\n", prefix, part.tokens, counted(part.documents, "document"),
             vocabulary.size());
}

void print_report(const TokenizeOptions& options, const TokenizeReport& report, const Vocabulary& vocabulary,
                  double seconds) {
  print_part(options.out, report.train, vocabulary);
  if (options.validation > 0) print_part(options.validation_out, report.validation, vocabulary);
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
  option("validation", po::value(&options.validation)->value_name("SHARE")->default_value(0),
         "share of the documents to hold out");
  option("validation-out", po::value(&options.validation_out)->value_name("PREFIX"),
         "PREFIX of the data set of those held out");
  option("binary", po::bool_switch(&options.binary), "take files with zero bytes too");
  line.positional.add_options()("path", po::value(&options.paths)->required(),
                                "text files, .jsonl files, and folders of them");
  line.order.add("path", -1);
  if (parse(line, arguments).empty()) return 0;

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
  const Sampler sampler(data.tokens(), ctx_len);
  fmt::print("ctx_len: {}\nmagic_prime: {}\nmy_exit_tokens: {}\n", ctx_len, sampler.magic_prime(),
             sampler.tokens_per_pass());
  return 0;
}

constexpr const char* kHelp =
    "usage: gf data tokenize --vocab byte|FILE --out PREFIX [options] PATH...\n"
    "         text files to a data set\n"
    "       gf data info PREFIX... [--ctx-len N]\n"
    "         what is in a data set, or in several as one, and the magic_prime for it\n\n"
    "Each lists its options with --help.\n";

}  // namespace

int run_data(const Arguments& arguments) {
  const std::string command = arguments.empty() ? "" : arguments.front();
  if (command == "--help" || command == "-h") return fmt::print("{}", kHelp), 0;
  const Arguments rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (command == "tokenize") return run_tokenize(rest);
  if (command == "info") return run_info(rest);
  refuse(command.empty() ? "no command given" : "there is no command \"" + command + "\"",
         "gf data tokenize, gf data info");
}

}  // namespace gf
