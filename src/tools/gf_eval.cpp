// SPDX-License-Identifier: Apache-2.0
// gf eval: the loss of a model over a data set, window by window.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/progress.h"
#include "base/text.h"
#include "io/data/data_list.h"
#include "io/data/token_files.h"
#include "tools/command_line.h"
#include "tools/position_change.h"
#include "train/evaluate.h"
#include "train/memory.h"
#include "train/parameters.h"

namespace gf {
namespace {

namespace po = boost::program_options;

// Windows are looked at together up to so many tokens: enough to keep all cores busy.
constexpr int64_t kBatchTokens = 4096;

struct EvalOptions {
  std::string checkpoint, data;
  int64_t ctx_len = 0, max_samples = 0, parts = 0;
  bool masked = false, by_position = false;
  PositionChange positions;
};

std::shared_ptr<const TokenFiles> open_data(const EvalOptions& o) {
  DataList list;
  list.set({.path = "--data", .text = o.data});
  if (list.empty()) refuse("--data is empty", "--data PREFIX");
  return std::make_shared<const TokenFiles>(list.prefixes("--data"), Masked{o.masked});
}

void check(const EvalOptions& o, const TokenFiles& data) {
  if (o.max_samples < 0) refuse(cat("--max-samples is ", o.max_samples), "1 or more, or 0 for all");
  if (o.ctx_len < 1 || o.ctx_len > kMaxContext) refuse(cat("--ctx-len is ", o.ctx_len), cat("from 1 to ", kMaxContext));
  if (o.ctx_len >= data.tokens())
    refuse(cat("--ctx-len is ", o.ctx_len, ", and ", data.name(), " has ", data.tokens(),
               " tokens: a window takes one more than --ctx-len"),
           "more data, or a smaller --ctx-len");
  if (o.by_position && (o.parts < 1 || o.parts > o.ctx_len))
    refuse(cat("--by-position is ", o.parts, ", and a window has ", o.ctx_len, " positions"),
           cat("from 1 to ", o.ctx_len));
}

Evaluation evaluate_all(const TrainedModel& model, std::shared_ptr<const TokenFiles> data, const EvalOptions& o) {
  const std::string name = data->name();
  const WindowReader reader(std::move(data), o.ctx_len, model.config.model.vocab_size);
  const int64_t windows = o.max_samples > 0 ? std::min(o.max_samples, reader.windows()) : reader.windows();
  if (reader.count_targets(windows) == 0)
    refuse(cat("the masks of ", name, " mark no token in ", windows, " windows of ", o.ctx_len, " tokens"),
           "without --masked, or more --max-samples");
  const int64_t batch = std::clamp(kBatchTokens / o.ctx_len, int64_t{1}, windows);
  check_evaluation_memory(model.config.model, batch, o.ctx_len, "a smaller --ctx-len", o.masked);
  Progress progress("eval", windows * o.ctx_len, stderr, "tokens");
  return evaluate(
      *model.layers, reader, windows, batch, [&](int64_t tokens) { progress.advance(tokens); }, o.parts);
}

std::string numbers_of(const Evaluation& e) {
  const auto real = [](double value) { return std::isfinite(value) ? fmt::format("{}", value) : "null"; };
  return fmt::format("\"loss\": {}, \"tokens\": {}, \"acc\": {}", real(e.loss), e.tokens, real(e.accuracy));
}

// Part i has the positions p with p * parts / ctx_len == i, rounded down.
std::string positions_of(const Evaluation& e, const ModelConfig& model, const EvalOptions& o) {
  std::vector<std::string> parts;
  for (int64_t i = 0; i < o.parts; ++i)
    parts.push_back(fmt::format("{{\"end\": {}, {}}}", ((i + 1) * o.ctx_len + o.parts - 1) / o.parts,
                                numbers_of(e.by_position[static_cast<size_t>(i)])));
  const double rescale = model.rope ? model.rope->rescale : model.brope ? model.brope->rescale : 1;
  return fmt::format(", \"ctx_len\": {}, \"rescale\": {}, \"rebase\": {}, \"by_position\": [{}]", o.ctx_len, rescale,
                     model.rope ? model.rope->rebase : 1, joined(parts));
}

}  // namespace

int run_eval(const Arguments& arguments) {
  EvalOptions o;
  CommandLine line{.usage = "gf eval --checkpoint C --data PREFIX [options]"};
  auto option = line.options.add_options();
  option("checkpoint", po::value(&o.checkpoint)->value_name("PATH")->required(),
         "a run folder (its newest checkpoint), a step folder or a checkpoint.h5");
  option("data", po::value(&o.data)->value_name("PREFIX")->required(),
         "PREFIX of PREFIX.idx and PREFIX.bin, or [PREFIX, PREFIX]: read as one");
  option("ctx-len", po::value(&o.ctx_len)->value_name("N"),
         "predict so many tokens of each window; without it, as many as in training");
  option("max-samples", po::value(&o.max_samples)->value_name("N")->default_value(0),
         "look at the first so many windows; 0: at all");
  option("masked", po::bool_switch(&o.masked), "count only the tokens that PREFIX.mask.bin marks");
  option("by-position", po::value(&o.parts)->value_name("BUCKETS"),
         "cut the window into so many parts, and tell of each as well");
  o.positions.add_to(line.options);
  const auto values = parse(line, arguments);
  if (values.empty()) return 0;
  o.positions.take(values);

  const auto data = open_data(o);
  const TrainedModel model = open_model(o.checkpoint, [&](ModelConfig& config) { o.positions.apply(config); });
  if (!values.count("ctx-len")) o.ctx_len = model.config.model.ctx_len;
  o.by_position = values.count("by-position") > 0;
  check(o, *data);
  const Evaluation e = evaluate_all(model, data, o);
  if (!std::isfinite(e.loss))
    fail(cat("the loss is ", std::isnan(e.loss) ? "nan" : "infinite"),
         "another checkpoint: this one's parameters are spoilt");
  fmt::print("{{{}{}}}\n", numbers_of(e), o.parts > 0 ? positions_of(e, model.config.model, o) : "");
  return 0;
}

}  // namespace gf
