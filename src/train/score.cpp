// SPDX-License-Identifier: Apache-2.0
#include "train/score.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "io/text/vocabulary.h"
#include "train/decoder.h"

namespace gf {
namespace {

constexpr int64_t kBatchTokens = 4096;  // run at once, with padding: enough to keep all cores busy
constexpr int64_t kLogitRows = 256;     // made at once: of a large vocabulary a few rows are many bytes

std::span<const float> row(const Tensor& logits_TV, int64_t i) {
  const int64_t V = logits_TV.size(1);
  return {logits_TV.data<float>() + i * V, static_cast<size_t>(V)};
}

void add(std::span<const float> logits, int32_t token, Score& score) {
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
  const int64_t C = x.size(2);
  for (int64_t b = 0; b < B; ++b) {
    const size_t i = which[static_cast<size_t>(b)];
    const std::vector<int32_t>& continuation = requests[i].continuation;
    const auto n = std::ssize(continuation);
    const int64_t first = b * T + std::ssize(texts[static_cast<size_t>(b)]) - n;
    for (int64_t t = 0; t < n; t += kLogitRows) {
      const int64_t rows = std::min(kLogitRows, n - t);
      const Tensor part = x.view({B * T, C}).slice(first + t, first + t + rows).view({1, rows, C});
      const Tensor logits = layers.head()->logits(tape.leaf(part, false)).value();
      const Tensor logits_TV = logits.view({rows, logits.size(2)});
      for (int64_t k = 0; k < rows; ++k) add(row(logits_TV, k), continuation[static_cast<size_t>(t + k)], scores[i]);
    }
  }
}

}  // namespace

std::vector<Score> score(const LayerStack& layers, std::span<const ScoreRequest> requests) {
  std::vector<Score> scores(requests.size());
  std::map<std::vector<int32_t>, Indices> by_context;
  for (size_t i = 0; i < requests.size(); ++i) {
    GF_CHECK(!requests[i].continuation.empty(), "a continuation without tokens");
    by_context[requests[i].context].push_back(i);
  }
  const auto length = [&](size_t i) {
    return std::max<size_t>(1, requests[i].context.size()) + requests[i].continuation.size();
  };
  Indices alone;
  for (const auto& [context, which] : by_context) {
    if (which.size() > 1 || length(which[0]) > kBatchTokens)
      score_shared(layers, requests, which, scores);
    else
      alone.push_back(which[0]);
  }
  std::ranges::stable_sort(alone, {}, length);
  Arena arena(kCpu);
  for (size_t begin = 0, end; begin < alone.size(); begin = end) {
    for (end = begin + 1; end < alone.size(); ++end)
      if ((end + 1 - begin) * length(alone[end]) > kBatchTokens) break;
    score_batch(layers, arena, requests,
                {alone.begin() + static_cast<std::ptrdiff_t>(begin), alone.begin() + static_cast<std::ptrdiff_t>(end)},
                scores);
  }
  return scores;
}

}  // namespace gf
