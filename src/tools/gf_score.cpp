// SPDX-License-Identifier: Apache-2.0
// gf score: log-likelihoods of continuations. One JSON object a line from standard input, one to standard output in the
// same order. What has come by the time a batch begins is taken together, so that a program that waits for its answers
// gets them.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/human.h"
#include "base/process_memory.h"
#include "io/text/jsonl.h"
#include "tools/command_line.h"
#include "tools/input_lines.h"
#include "train/generate.h"
#include "train/memory.h"
#include "train/parameters.h"
#include "train/score.h"

namespace gf {
namespace {

namespace po = boost::program_options;
using json = nlohmann::json;

constexpr size_t kMostLines = 1024;  // at once
constexpr const char* kForm =
    "{\"context\": TEXT, \"continuation\": TEXT}, or _tokens behind a name and a list of numbers";

// Waits for one, and takes those that have come with it; none at the end.
std::vector<std::string> take(InputLines& input) {
  std::vector<std::string> lines;
  for (auto line = input.next(); line; line = lines.size() < kMostLines ? input.at_hand() : std::nullopt)
    lines.push_back(std::move(*line));
  return lines;
}

std::vector<int32_t> tokens_of(const json& line, const std::string& name, const Vocabulary& vocabulary,
                               int64_t vocab_size) {
  const std::string as_tokens = name + "_tokens";
  if (line.contains(name) == line.contains(as_tokens))
    refuse(cat(line.contains(name) ? "both " : "neither ", name, line.contains(name) ? " and " : " nor ", as_tokens,
               line.contains(name) ? " are there" : " is there"),
           kForm);
  std::vector<int32_t> tokens;
  if (line.contains(name)) {
    if (!line[name].is_string()) refuse(name + " is no text", kForm);
    vocabulary.encode(line[name].get_ref<const std::string&>(), tokens);
    return tokens;
  }
  if (!line[as_tokens].is_array()) refuse(as_tokens + " is no list", kForm);
  for (const json& token : line[as_tokens]) {
    if (!token.is_number_integer()) refuse(cat(as_tokens, " has ", token.dump(), ", which is no whole number"), kForm);
    const auto value = token.get<int64_t>();
    if (value < 0 || value >= vocab_size || (token.is_number_unsigned() && token.get<uint64_t>() > INT64_MAX))
      refuse(cat("token ", token.dump(), " is not one of the model's ", vocab_size), "numbers from 0 on");
    tokens.push_back(static_cast<int32_t>(value));
  }
  return tokens;
}

ScoreRequest request_of(const std::string& text, const Vocabulary& vocabulary, int64_t vocab_size) {
  const json line = json::parse(text, nullptr, false);
  if (line.is_discarded()) refuse("no JSON", kForm);
  if (!line.is_object()) refuse("no JSON object", kForm);
  ScoreRequest request{tokens_of(line, "context", vocabulary, vocab_size),
                       tokens_of(line, "continuation", vocabulary, vocab_size)};
  if (request.continuation.empty()) refuse("the continuation has no tokens", "at least one to be scored");
  return request;
}

void print_line(const std::string& line) {
  if (std::fputs(line.c_str(), stdout) < 0 || std::fputc('\n', stdout) == EOF)
    fail(cat("cannot write the answers: ", std::strerror(errno)));
}

// How many tokens of one request there is memory for.
size_t most_tokens(const ModelConfig& config) {
  const auto [always, a_position] = bytes_of_scoring(config);
  const size_t need = always + MemoryForecast::libraries;
  const AvailableMemory available = available_memory();
  if (need > available.bytes)
    refuse(cat("scoring takes ", human_bytes(static_cast<double>(need)), " of memory, and ",
               human_bytes(static_cast<double>(available.bytes)), " are free"),
           available.hint("a machine with more memory"));
  return a_position == 0 ? std::numeric_limits<size_t>::max() : (available.bytes - need) / a_position;
}

void check_length(const ScoreRequest& request, const ModelConfig& config, size_t most) {
  const size_t tokens = request.context.size() + request.continuation.size();
  if (tokens <= most) return;
  const double each = static_cast<double>(bytes_of_scoring(config).a_position);
  refuse(cat(tokens, " tokens need ", human_bytes(each * static_cast<double>(tokens)), ", and ",
             human_bytes(each * static_cast<double>(most)), " are free"),
         cat("at most ", most, " tokens of context and continuation"));
}

// A bad line is told by its number, and answered by what is wrong with it; the others are answered all the same.
class Answers {
 public:
  Answers(const LayerStack& layers, const Vocabulary& vocabulary)
      : layers_(layers), vocabulary_(vocabulary), most_tokens_(most_tokens(layers.config())) {}

  // Of those that have come; nothing where no more will.
  bool answer_some() {
    const std::vector<std::string> lines = take(input_);
    if (!lines.empty()) answer(lines);
    return !lines.empty();
  }
  int64_t bad() const { return bad_; }

 private:
  void answer(const std::vector<std::string>& lines) {
    std::vector<ScoreRequest> requests;
    std::vector<std::optional<std::string>> wrong;
    for (const std::string& line : lines) {
      ++number_;
      if (is_blank(line)) continue;
      wrong.emplace_back();
      try {
        input_.check_length(line);
        ScoreRequest request = request_of(line, vocabulary_, layers_.config().vocab_size);
        check_length(request, layers_.config(), most_tokens_);
        requests.push_back(std::move(request));
      } catch (const Error& e) {
        wrong.back() = e.what();
        print_error("gf score", Error(cat("line ", number_, ": ", e.what()), e.hint(), e.status(), e.where()));
        ++bad_;
      }
    }
    const std::vector<Score> scores = score(layers_, requests);
    auto next = scores.begin();
    for (const auto& w : wrong) {
      if (w) {
        print_line(json{{"error", *w}}.dump(-1, ' ', false, json::error_handler_t::replace));
        continue;
      }
      print_line(fmt::format("{{\"logprob\": {}, \"greedy\": {}, \"tokens\": {}}}", next->logprob, next->greedy,
                             next->tokens));
      ++next;
    }
    if (std::fflush(stdout) != 0) fail(cat("cannot write the answers: ", std::strerror(errno)));
  }

  const LayerStack& layers_;
  const Vocabulary& vocabulary_;
  const size_t most_tokens_;
  InputLines input_;
  int64_t number_ = 0, bad_ = 0;
};

}  // namespace

int run_score(const Arguments& arguments) {
  std::string checkpoint, vocab;
  CommandLine line{.usage = "gf score --checkpoint C --vocab byte|FILE < REQUESTS.jsonl"};
  auto option = line.options.add_options();
  option("checkpoint", po::value(&checkpoint)->value_name("PATH")->required(),
         "a run folder (its newest checkpoint), a step folder or a checkpoint.h5");
  option("vocab", po::value(&vocab)->value_name("byte|FILE")->required(),
         "byte, or a vocabulary file in the RWKV World format: that of the training");
  if (parse(line, arguments).empty()) return 0;
  const auto vocabulary = Vocabulary::open(vocab);
  const TrainedModel model = open_model(checkpoint);
  check_vocabulary(*vocabulary, model.config.model.vocab_size);
  Answers answers(*model.layers, *vocabulary);
  while (answers.answer_some()) {}
  return static_cast<int>(answers.bad() > 0 ? Exit::bad_input : Exit::done);
}

}  // namespace gf
