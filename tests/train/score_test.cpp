// SPDX-License-Identifier: Apache-2.0
#include "train/score.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/random.h"
#include "support/expect_error.h"
#include "support/small_model.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

std::vector<int32_t> some_tokens(uint64_t seed, size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(Random(seed, "tokens").bits(i) % 33));
  return tokens;
}

// From the logits of one pass over context and continuation, in double.
Score expected(const LayerStack& layers, const ScoreRequest& r) {
  std::vector<int32_t> text = r.context.empty() ? std::vector<int32_t>{0} : r.context;
  const size_t first = text.size();
  text.insert(text.end(), r.continuation.begin(), r.continuation.end());
  const Tensor logits = logits_of(layers, {Tensor::of<int32_t>({1, std::ssize(text)}, text), {}, {0}});
  const int64_t V = logits.size(2);
  Score score;
  for (size_t t = first; t < text.size(); ++t) {
    const float* const row = logits.data<float>() + static_cast<int64_t>(t - 1) * V;
    double sum = 0;
    for (int64_t v = 0; v < V; ++v) sum += std::exp(static_cast<double>(row[v]));
    score.logprob += static_cast<double>(row[text[t]]) - std::log(sum);
    score.greedy = score.greedy && std::max_element(row, row + V) - row == text[t];
    ++score.tokens;
  }
  return score;
}

TEST(Score, IsThatOfAPassOverEachRequest) {
  for (const auto& [mix, upper] : {std::pair("x060c2", "gold"), {"x060", ""}, {"llama", ""}}) {
    LayerStack layers(small_config(mix, "x060", upper));
    layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    fill_hashed(layers.parameters());
    std::vector<ScoreRequest> requests;
    for (uint64_t i = 0; i < 12; ++i) requests.push_back({some_tokens(i, 1 + 5 * i), some_tokens(100 + i, 1 + i % 4)});
    for (uint64_t i = 0; i < 4; ++i) requests.push_back({some_tokens(50, 20), some_tokens(200 + i, 1 + i)});  // shared
    for (uint64_t i = 0; i < 4; ++i) requests.push_back({some_tokens(51, 90), some_tokens(210 + i, 3)});  // and it pays
    for (uint64_t i = 0; i < 3; ++i) requests.push_back({{}, some_tokens(300 + i, 70 + i)});
    requests.push_back({{}, some_tokens(310, 4100)});  // longer than a batch, with the context of others
    requests.push_back({some_tokens(60, 4200), some_tokens(301, 3)});  // longer than a batch
    const auto scores = score(layers, requests);
    ASSERT_EQ(scores.size(), requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      const Score want = expected(layers, requests[i]);
      EXPECT_NEAR(scores[i].logprob, want.logprob, 1e-5 * std::fabs(want.logprob)) << mix << " " << i;
      EXPECT_EQ(scores[i].greedy, want.greedy) << i;
      EXPECT_EQ(scores[i].tokens, want.tokens) << i;
    }
  }
}

// As one by one, so side by side: no number is told that is none.
TEST(Score, OfASpoiltModelIsAnError) {
  LayerStack layers(small_config("x060c2", "x060", "gold"));
  layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  fill_hashed(layers.parameters());
  fill(layers.parameters().all().back()->value(), std::numeric_limits<double>::quiet_NaN());
  const ScoreRequest alone{some_tokens(1, 5), some_tokens(2, 3)};
  for (const size_t count : {1u, 4u}) {
    std::vector<ScoreRequest> requests(count, alone);
    if (count > 1) requests.assign(count, {some_tokens(51, 90), some_tokens(2, 3)});
    ASSERT_EQ(plan_scores(requests).shared.empty(), count == 1);
    expect_error(Exit::failed, {"the model's logit of token 0 is nan"}, [&] { score(layers, requests); });
  }
}

// Short contexts, which questions and whole documents share, are no reason to take requests one by one.
TEST(Score, RequestsShareAContextOnlyWhereThatPays) {
  using Groups = std::vector<std::vector<size_t>>;
  std::vector<ScoreRequest> requests;
  const auto add = [&](size_t context, std::vector<size_t> continuations) {
    for (const size_t n : continuations) requests.push_back({some_tokens(context, context), some_tokens(7, n)});
  };
  add(20, {3, 2, 4, 3});       // 0 to 3: a question
  add(100, {3, 2, 4, 3});      // 4 to 7: with examples before it
  add(0, {30, 10, 4200, 40});  // 8 to 11: documents, one of them longer than a batch
  add(300, {5});               // 12
  const ScorePlan plan = plan_scores(requests);
  EXPECT_EQ(plan.shared, (Groups{{10}, {4, 5, 6, 7}})) << "in the order of contexts";
  EXPECT_EQ(plan.batches, (Groups{{9, 1, 0, 3, 2, 8, 11, 12}})) << "by length";
  requests.assign(100, requests[12]);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].context[0] = static_cast<int32_t>(i);  // no two the same
  EXPECT_EQ(plan_scores(requests).batches.size(), 8u) << "13 of 305 tokens in each";
}

// Its own greedy text is greedy, however the tokens are dealt out.
TEST(Score, TheLikeliestTextIsGreedy) {
  LayerStack layers(small_config("x060c2", "x060", "gold"));
  layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  fill_hashed(layers.parameters());
  std::vector<int32_t> text = some_tokens(1, 5);
  for (int i = 0; i < 6; ++i) {
    const Tensor logits = logits_of(layers, {Tensor::of<int32_t>({1, std::ssize(text)}, text), {}, {0}});
    const float* const row = logits.data<float>() + (std::ssize(text) - 1) * logits.size(2);
    text.push_back(static_cast<int32_t>(std::max_element(row, row + logits.size(2)) - row));
  }
  const ScoreRequest greedy{{text.begin(), text.begin() + 5}, {text.begin() + 5, text.end()}};
  ScoreRequest other = greedy;
  other.continuation[3] = (other.continuation[3] + 1) % 33;
  const auto scores = score(layers, std::vector{greedy, other});
  EXPECT_TRUE(scores[0].greedy);
  EXPECT_FALSE(scores[1].greedy);
  EXPECT_LT(scores[1].logprob, scores[0].logprob);
}

}  // namespace
}  // namespace gf
