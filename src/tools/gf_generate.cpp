// SPDX-License-Identifier: Apache-2.0
// gf generate: text from a model. The text goes to standard output as it is made, everything else to standard error.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/human.h"
#include "base/process_memory.h"
#include "tools/command_line.h"
#include "train/generate.h"
#include "train/memory.h"
#include "train/parameters.h"

namespace gf {
namespace {

namespace po = boost::program_options;

void print_text(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail(cat("cannot write the text: ", std::strerror(errno)));
}

std::string what_ended(const Generation& g) {
  switch (g.end) {
    case Generation::End::tokens:
      return "--tokens";
    case Generation::End::document:
      return "the end of the document";
    case Generation::End::stop:
      return "--stop";
  }
  return {};
}

std::string counted(int64_t n) {
  return fmt::format("{} token{}", n, n == 1 ? "" : "s");
}

void print_report(const Generation& g, size_t prompt_tokens) {
  // Both on one terminal, or in one log.
  if (isatty(STDOUT_FILENO) == isatty(STDERR_FILENO)) fmt::print(stderr, "\n");
  fmt::print(stderr, "prompt: {} in {}; text: {} in {}", counted(static_cast<int64_t>(prompt_tokens)),
             human_duration(g.prompt_s), counted(g.tokens), human_duration(g.steps_s));
  if (g.steps > 0) fmt::print(stderr, ", {} tokens/s", human_count(static_cast<double>(g.steps) / g.steps_s));
  fmt::print(stderr, "; ended by {}; peak memory {}\n", what_ended(g),
             human_bytes(static_cast<double>(peak_resident_bytes())));
  if (g.unfinished_bytes > 0)
    fmt::print(stderr, "left out an unfinished character at the end ({} bytes)\n", g.unfinished_bytes);
}

}  // namespace

int run_generate(const Arguments& arguments) {
  std::string checkpoint, vocab, prompt;
  GenerateOptions o;
  int64_t seed = 0;
  CommandLine line{.usage = "gf generate --checkpoint C --vocab byte|FILE --prompt TEXT --tokens N [options]"};
  auto option = line.options.add_options();
  option("checkpoint", po::value(&checkpoint)->value_name("PATH")->required(),
         "a run folder (its newest checkpoint), a step folder or a checkpoint.h5");
  option("vocab", po::value(&vocab)->value_name("byte|FILE")->required(),
         "byte, or a vocabulary file in the RWKV World format: that of the training");
  option("prompt", po::value(&prompt)->value_name("TEXT")->required(), "the text to go on from; empty: a new document");
  option("tokens", po::value(&o.tokens)->value_name("N")->required(), "make so many tokens at most");
  option("temperature", po::value(&o.sampling.temperature)->value_name("X")->default_value(1),
         "divides the logits; 0: always the likeliest token");
  option("top-p", po::value(&o.sampling.top_p)->value_name("X")->default_value(1),
         "keep the likeliest tokens that together have this probability");
  option("top-k", po::value(&o.sampling.top_k)->value_name("N")->default_value(0),
         "keep so many of the likeliest tokens; 0: all");
  option("seed", po::value(&seed)->value_name("N")->default_value(0), "the same seed gives the same text");
  option("stop", po::value(&o.stops)->value_name("TEXT"), "end before this text; may be given again");
  if (parse(line, arguments).empty()) return 0;
  o.seed = static_cast<uint64_t>(seed);
  check(o);

  const auto vocabulary = Vocabulary::open(vocab);
  const TrainedModel model = open_model(checkpoint);
  check_vocabulary(*vocabulary, model.config.model.vocab_size);
  check_evaluation_memory(model.config.model, 1, model.config.model.ctx_len, "a machine with more memory");
  const std::vector<int32_t> tokens = prompt_tokens(*vocabulary, prompt);
  StatefulDecoder decoder(*model.layers, {});
  print_report(generate(decoder, *vocabulary, tokens, o, print_text), tokens.size());
  return 0;
}

}  // namespace gf
