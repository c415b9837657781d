// SPDX-License-Identifier: Apache-2.0
#include "train/score.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "io/text/vocabulary.h"
#include "tensor/arithmetic.h"
#include "train/decoder.h"
#include "train/memory.h"
#include "train/sampling.h"

namespace gf {
namespace {

constexpr int64_t kBatchTokens = 4096;  // run at once, with padding: enough to keep all cores busy
constexpr int64_t kLogitRows = 256;     // made at once: of a large vocabulary a few rows are many bytes
// A continuation by itself takes as long as about so many more tokens of a batch, since all weights are read for a few
// rows: 10 to 13 on one core (L12 D768, L6 D256), some 30 on two, which a few rows do not keep busy.
constexpr size_t kAlone = 24;

std::span<const float> row(const Tensor& logits_TV, int64_t i) {
  const int64_t V = logits_TV.size(1);
  return {logits_TV.data<float>() + i * V, static_cast<size_t>(V)};
}

void add(std::span<const float> logits, int32_t token, Score& score) {
  check_finite(logits);
  const auto top = std::ranges::max_element(logits);
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - static_cast<double>(*top));
  score.logprob += static_cast<double>(logits[static_cast<size_t>(token)]) - static_cast<double>(*top) - std::log(sum);
  score.greedy = score.greedy && top - logits.begin() == token;
  ++score.tokens;
}

// What the model reads: all but the last token, whose successor is not asked for.
std::vector<int32_t> text_of(const ScoreRequest& r) {
  std::vector<int32_t> text = r.context;
  if (text.empty()) text.push_back(kEndOfDocument);
  text.insert(text.end(), r.continuation.begin(), r.continuation.end() - 1);
  return text;
}

using Indices = std::vector<size_t>;

// Requests that share a context, or one that is too long to be run at once.
void score_shared(const LayerStack& layers, std::span<const ScoreRequest> requests, const Indices& which,
                  std::vector<Score>& scores) {
  std::vector<int32_t> context = requests[which[0]].context;
  if (context.empty()) context.push_back(kEndOfDocument);
  StatefulDecoder reader(layers, {});
  const std::span<const float> after = reader.feed(context);
  for (const size_t i : which) {
    const std::vector<int32_t>& continuation = requests[i].continuation;
    add(after, continuation[0], scores[i]);
    if (continuation.size() == 1) continue;
    StatefulDecoder rest = reader.fork();
    for (size_t t = 1; t < continuation.size(); t += kLogitRows) {
      const size_t rows = std::min<size_t>(kLogitRows, continuation.size() - t);
      const Tensor logits = rest.feed_all(std::span(continuation).subspan(t - 1, rows));
      for (size_t k = 0; k < rows; ++k) add(row(logits, static_cast<int64_t>(k)), continuation[t + k], scores[i]);
    }
  }
}

// Whether `count` requests are done sooner if their context is read once, and then one continuation after the other.
bool pays_to_share(size_t context, size_t count) {
  return (count - 1) * context > count * kAlone;
}

// A row of a batch after which a token of a request comes.
struct Asked {
  int64_t row;
  int32_t token;
  size_t request;
};

// Requests side by side, filled up at their ends, where nothing before looks.
void score_batch(const LayerStack& layers, Arena& arena, std::span<const ScoreRequest> requests, const Indices& which,
                 std::vector<Score>& scores) {
  std::vector<std::vector<int32_t>> texts;
  int64_t T = 0;
  for (const size_t i : which) {
    texts.push_back(text_of(requests[i]));
    T = std::max(T, std::ssize(texts.back()));
  }
  const auto B = std::ssize(which);
  const Tensor tokens = Tensor::zeros({B, T}, DType::i32, kCpu);
  for (int64_t b = 0; b < B; ++b) std::ranges::copy(texts[static_cast<size_t>(b)], tokens.data<int32_t>() + b * T);
  const Batch batch{tokens, {}, std::vector<int64_t>(static_cast<size_t>(B))};
  Tape tape(arena, Tape::Mode::evaluate);
  const Tensor x = layers.forward(tape, {batch}, {}).x_BTC.value();
  std::vector<Asked> asked;
  for (int64_t b = 0; b < B; ++b) {
    const size_t i = which[static_cast<size_t>(b)];
    const std::vector<int32_t>& continuation = requests[i].continuation;
    int64_t at = b * T + std::ssize(texts[static_cast<size_t>(b)]) - std::ssize(continuation);
    for (const int32_t token : continuation) asked.push_back({at++, token, i});
  }
  const int64_t C = x.size(2);
  for (size_t begin = 0; begin < asked.size(); begin += kLogitRows) {
    const std::span some = std::span(asked).subspan(begin, std::min<size_t>(kLogitRows, asked.size() - begin));
    const auto rows = std::ssize(some);
    const Tensor wanted = tape.empty({1, rows, C}, x.dtype());
    for (int64_t k = 0; k < rows; ++k) {
      const int64_t at = some[static_cast<size_t>(k)].row;
      copy(x.view({B * T, C}).slice(at, at + 1), wanted.view({rows, C}).slice(k, k + 1));
    }
    const Tensor logits = layers.head()->logits(tape.leaf(wanted, false)).value();
    const Tensor logits_TV = logits.view({rows, logits.size(2)});
    for (int64_t k = 0; k < rows; ++k) {
      const Asked& a = some[static_cast<size_t>(k)];
      add(row(logits_TV, k), a.token, scores[a.request]);
    }
  }
}

}  // namespace

ScorePlan plan_scores(std::span<const ScoreRequest> requests) {
  std::map<std::vector<int32_t>, Indices> by_context;
  for (size_t i = 0; i < requests.size(); ++i) by_context[requests[i].context].push_back(i);
  const auto length = [&](size_t i) {
    return std::max<size_t>(1, requests[i].context.size()) + requests[i].continuation.size();
  };
  ScorePlan plan;
  Indices others;
  for (const auto& [context, which] : by_context) {
    Indices shared;
    const bool pays = pays_to_share(context.size(), which.size());
    for (const size_t i : which) (pays || length(i) > kBatchTokens ? shared : others).push_back(i);
    if (!shared.empty()) plan.shared.push_back(std::move(shared));
  }
  std::ranges::stable_sort(others, {}, length);
  for (const size_t i : others) {
    if (plan.batches.empty() || (plan.batches.back().size() + 1) * length(i) > kBatchTokens)
      plan.batches.emplace_back();
    plan.batches.back().push_back(i);
  }
  return plan;
}

std::vector<Score> score(const LayerStack& layers, std::span<const ScoreRequest> requests) {
  for (const ScoreRequest& r : requests) GF_CHECK(!r.continuation.empty(), "a continuation without tokens");
  std::vector<Score> scores(requests.size());
  const ScorePlan plan = plan_scores(requests);
  for (const Indices& which : plan.shared) score_shared(layers, requests, which, scores);
  Arena arena(kCpu);
  for (const Indices& which : plan.batches) score_batch(layers, arena, requests, which, scores);
  return scores;
}

ScoreBytes bytes_of_scoring(const ModelConfig& config) {
  const auto logits = static_cast<size_t>(2 * kLogitRows * config.vocab_size) * sizeof(float);
  return {evaluation_bytes(config, 1, kBatchTokens) + logits, bytes_a_position(config, {})};
}

}  // namespace gf
