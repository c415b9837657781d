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
#include "tools/position_change.h"
#include "train/generate.h"
#include "train/memory.h"
#include "train/parameters.h"
#include "train/score_request.h"

namespace gf {
namespace {

namespace po = boost::program_options;
using json = nlohmann::json;

constexpr size_t kMostLines = 1024;  // at once

// Waits for one, and takes those that have come with it; none at the end.
std::vector<std::string> take(InputLines& input) {
  std::vector<std::string> lines;
  for (auto line = input.next(); line; line = lines.size() < kMostLines ? input.at_hand() : std::nullopt)
    lines.push_back(std::move(*line));
  return lines;
}

void print_line(const std::string& line) {
  if (std::fputs(line.c_str(), stdout) < 0 || std::fputc('\n', stdout) == EOF)
    fail(cat("cannot write the answers: ", std::strerror(errno)));
}

// How many tokens of one request there is memory for.
size_t most_tokens(const ModelConfig& config) {
  const auto [always, a_position] = bytes_of_scoring(config);
  const size_t need = always + MemoryForecast::spare;
  const AvailableMemory available = available_memory();
  if (need > available.bytes)
    refuse(cat("scoring takes ", human_bytes(static_cast<double>(need)), " of memory, and ",
               human_bytes(static_cast<double>(available.bytes)), " are free"),
           available.hint(need, "a machine with more memory"));
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
        ScoreRequest request = parse_score_request(line, vocabulary_, layers_.config().vocab_size);
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
  PositionChange positions;
  positions.add_to(line.options);
  const auto values = parse(line, arguments);
  if (values.empty()) return 0;
  positions.take(values);
  const auto vocabulary = Vocabulary::open(vocab);
  const TrainedModel model = open_model(checkpoint, [&](ModelConfig& config) { positions.apply(config); });
  check_vocabulary(*vocabulary, model.config.model.vocab_size);
  Answers answers(*model.layers, *vocabulary);
  while (answers.answer_some()) {}
  return static_cast<int>(answers.bad() > 0 ? Exit::bad_input : Exit::done);
}

}  // namespace gf
