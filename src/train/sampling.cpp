// SPDX-License-Identifier: Apache-2.0
#include "train/sampling.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace gf {
namespace {

struct Candidate {
  int32_t token;
  float logit;
  double weight = 0;  // probability, but for a common factor
};

bool likelier(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// Puts the likeliest `count` of those from `begin` on there, in order.
void sort_likeliest(std::vector<Candidate>& candidates, size_t begin, size_t count) {
  const auto first = candidates.begin() + static_cast<ptrdiff_t>(begin), end = first + static_cast<ptrdiff_t>(count);
  if (end != candidates.end()) std::nth_element(first, end, candidates.end(), likelier);
  std::sort(first, end, likelier);
}

// The likeliest top_k tokens in order; all of them as they come where no number is given.
std::vector<Candidate> candidates_of(std::span<const float> logits, const Sampling& s) {
  std::vector<Candidate> all;
  all.reserve(logits.size());
  for (const float logit : logits) all.push_back({static_cast<int32_t>(all.size()), logit});
  if (s.top_k > 0 && s.top_k < std::ssize(all)) {
    const auto count = static_cast<size_t>(s.top_k);
    sort_likeliest(all, 0, count);
    all.resize(count);
  }
  return all;
}

// Fills in the weights and returns their sum. The largest weight is 1, so that the sum is neither 0 nor infinite.
double weigh(std::vector<Candidate>& candidates, double temperature) {
  const auto top = static_cast<double>(std::ranges::min(candidates, likelier).logit);
  double sum = 0;
  for (Candidate& c : candidates) sum += c.weight = std::exp((static_cast<double>(c.logit) - top) / temperature);
  return sum;
}

// Keeps the likeliest candidates in order, up to the one with which `mass` is reached; returns the sum of their
// weights. They are sorted piece by piece: of a large vocabulary, most tokens are never among them.
double keep_mass(std::vector<Candidate>& candidates, double mass) {
  size_t kept = 0, sorted = 0, piece = 64;
  double sum = 0;
  while (kept < candidates.size() && sum < mass) {
    if (kept == sorted) {
      piece = std::min(piece, candidates.size() - sorted);
      sort_likeliest(candidates, sorted, piece);
      sorted += piece, piece *= 4;
    }
    sum += candidates[kept++].weight;
  }
  candidates.resize(kept);
  return sum;
}

// Keeps those that weigh at least `share` of the most, which is 1; returns the sum of their weights.
double keep_likely(std::vector<Candidate>& candidates, double share) {
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < share; });
  double sum = 0;
  for (const Candidate& c : candidates) sum += c.weight;
  return sum;
}

}  // namespace

void check(const Sampling& s) {
  if (!(s.temperature >= 0) || !std::isfinite(s.temperature))
    refuse(cat("--temperature is ", s.temperature),
           "0 for the likeliest token each time, 1 for the model's own probabilities");
  if (!(s.top_p > 0 && s.top_p <= 1)) refuse(cat("--top-p is ", s.top_p), "above 0, up to 1, which keeps all tokens");
  if (!(s.min_p >= 0 && s.min_p <= 1))
    refuse(cat("--min-p is ", s.min_p), "from 0, which keeps all tokens, to 1, which keeps the likeliest");
  if (s.top_k < 0) refuse(cat("--top-k is ", s.top_k), "1 or more, or 0, which keeps all tokens");
}

void check_finite(std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isfinite(logits[i]))
      fail(cat("the model's logit of token ", i, " is ", std::isnan(logits[i]) ? "nan" : "infinite"),
           "another checkpoint: this one's parameters are spoilt");
}

int32_t sample(std::span<const float> logits, const Sampling& s, double unit) {
  GF_CHECK(!logits.empty() && unit >= 0 && unit < 1, logits.size(), " logits, random number ", unit);
  check_finite(logits);
  if (s.temperature == 0) return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());

  std::vector<Candidate> candidates = candidates_of(logits, s);
  double total = weigh(candidates, s.temperature);
  if (s.top_p < 1) total = keep_mass(candidates, s.top_p * total);
  if (s.min_p > 0) total = keep_likely(candidates, s.min_p);
  // The same sum again in the same order: it passes every number below `total`, and never at a weight of 0.
  const double drawn = unit * total;
  double sum = 0;
  for (const Candidate& c : candidates)
    if ((sum += c.weight) > drawn) return c.token;
  fail(cat("no token at ", drawn, " of ", total));
}

void check(const Penalties& p) {
  constexpr double kMost = Penalties::kMost;
  if (!(p.repetition >= 1 / kMost && p.repetition <= kMost))
    refuse(cat("--repetition-penalty is ", p.repetition),
           cat("from ", 1 / kMost, " to ", kMost, "; 1 for none, 1.1 for a little"));
  for (const auto& [name, value] : {std::pair("presence", p.presence), {"frequency", p.frequency}})
    if (!(std::fabs(value) <= kMost))
      refuse(cat("--", name, "-penalty is ", value),
             cat("from ", -kMost, " to ", kMost, "; 0 for none, 0.5 for a little"));
}

std::span<const float> PenalisedLogits::of(std::span<const float> logits) {
  const Penalties& p = penalties_;
  if (p.repetition == 1 && p.presence == 0 && p.frequency == 0) return logits;
  penalised_.assign(logits.begin(), logits.end());
  for (const auto& [token, times] : counts_.times()) {
    if (token >= std::ssize(penalised_)) continue;  // of the model, but not of the vocabulary
    float& logit = penalised_[static_cast<size_t>(token)];
    double x = logit;
    x = x > 0 ? x / p.repetition : x * p.repetition;
    logit = static_cast<float>(x - p.presence - p.frequency * static_cast<double>(times));
  }
  return penalised_;
}

}  // namespace gf
