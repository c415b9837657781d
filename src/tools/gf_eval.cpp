// SPDX-License-Identifier: Apache-2.0
// gf eval: the loss of a model over a data set, window by window.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/progress.h"
#include "io/data/data_list.h"
#include "io/data/token_files.h"
#include "tools/command_line.h"
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
  int64_t ctx_len = 0, max_samples = 0;
};

std::shared_ptr<const TokenFiles> open_data(const std::string& text) {
  DataList list;
  list.set({.path = "--data", .text = text});
  if (list.empty()) refuse("--data is empty", "--data PREFIX");
  return std::make_shared<const TokenFiles>(list.prefixes("--data"));
}

void check(const EvalOptions& o, const TokenFiles& data) {
  if (o.max_samples < 0) refuse(cat("--max-samples is ", o.max_samples), "1 or more, or 0 for all");
  if (o.ctx_len < 1 || o.ctx_len > kMaxContext) refuse(cat("--ctx-len is ", o.ctx_len), cat("from 1 to ", kMaxContext));
  if (o.ctx_len >= data.tokens())
    refuse(cat("--ctx-len is ", o.ctx_len, ", and ", data.name(), " has ", data.tokens(),
               " tokens: a window takes one more than --ctx-len"),
           "more data, or a smaller --ctx-len");
}

Evaluation evaluate_all(const TrainedModel& model, std::shared_ptr<const TokenFiles> data, const EvalOptions& o) {
  const WindowReader reader(std::move(data), o.ctx_len, model.config.model.vocab_size);
  const int64_t windows = o.max_samples > 0 ? std::min(o.max_samples, reader.windows()) : reader.windows();
  const int64_t batch = std::clamp(kBatchTokens / o.ctx_len, int64_t{1}, windows);
  check_evaluation_memory(model.config.model, batch, o.ctx_len, "a smaller --ctx-len");
  Progress progress("eval", windows * o.ctx_len, stderr, "tokens");
  return evaluate(*model.layers, reader, windows, batch, [&](int64_t tokens) { progress.advance(tokens); });
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
  const auto values = parse(line, arguments);
  if (values.empty()) return 0;

  const auto data = open_data(o.data);
  const TrainedModel model = open_model(o.checkpoint);
  if (!values.count("ctx-len")) o.ctx_len = model.config.model.ctx_len;
  check(o, *data);
  const Evaluation e = evaluate_all(model, data, o);
  if (!std::isfinite(e.loss))
    fail(cat("the loss is ", std::isnan(e.loss) ? "nan" : "infinite"),
         "another checkpoint: this one's parameters are spoilt");
  fmt::print("{{\"loss\": {}, \"tokens\": {}, \"acc\": {}}}\n", e.loss, e.tokens, e.accuracy);
  return 0;
}

}  // namespace gf
