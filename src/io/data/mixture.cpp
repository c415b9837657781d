// SPDX-License-Identifier: Apache-2.0
#include "io/data/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace gf {
namespace {

constexpr int kBits = 62;
constexpr double kLeastShare = 1e-9;

// Of n samples, how many are the first part's: share * n, rounded. Not at exactly one half: there the last digit of a
// share would decide, and weights 7 and 3 might not give the order of 0.7 and 0.3.
int64_t first_of(uint64_t share, int64_t n) {
  constexpr uint64_t kRounding = (uint64_t{1} << (kBits - 1)) + (uint64_t{1} << (kBits - 8));
  const auto product = static_cast<unsigned __int128>(share) * static_cast<uint64_t>(n);
  return static_cast<int64_t>((product + kRounding) >> kBits);
}

}  // namespace

Mixture::Mixture(std::span<const double> weights) : shares_(weights.begin(), weights.end()) {
  const double largest = weights.empty() ? 0 : *std::ranges::max_element(weights);
  GF_CHECK(largest > 0 && std::isfinite(largest), "weights of ", weights.size(), " sources, the largest ", largest);
  for (double& share : shares_) share /= largest;  // so that the sum is finite
  const double sum = std::accumulate(shares_.begin(), shares_.end(), 0.0);
  for (size_t i = 0; i < shares_.size(); ++i) {
    shares_[i] /= sum;
    if (!(shares_[i] > kLeastShare))
      refuse(cat("the weight ", weights[i], " is ", shares_[i], " of all, and ", kLeastShare,
                 " is too little to matter in any run"),
             "a larger weight, or the list without what has this one");
  }
  if (shares_.size() > 1) split(0, shares_.size());
}

// Cuts where the parts come closest to halves, so that few splittings lead to a source.
size_t Mixture::split(size_t begin, size_t end) {
  const double whole = std::accumulate(shares_.begin() + begin, shares_.begin() + end, 0.0);
  size_t middle = begin + 1;
  double part = shares_[begin];
  while (middle + 1 < end && std::fabs(part + shares_[middle] - whole / 2) < std::fabs(part - whole / 2))
    part += shares_[middle++];
  const size_t at = splits_.size();
  splits_.push_back({static_cast<uint64_t>(std::ldexp(part / whole, kBits)), middle, 0, 0});
  if (middle - begin > 1) splits_[at].first = split(begin, middle);
  if (end - middle > 1) splits_[at].second = split(middle, end);
  return at;
}

Mixture::Place Mixture::place(int64_t sample) const {
  size_t begin = 0, end = shares_.size(), at = 0;
  while (end - begin > 1) {
    const Split& s = splits_[at];
    const int64_t before = first_of(s.share, sample);
    if (first_of(s.share, sample + 1) > before)
      sample = before, end = s.middle, at = s.first;
    else
      sample -= before, begin = s.middle, at = s.second;
  }
  return {begin, sample};
}

void Mixture::count(size_t begin, size_t end, size_t at, int64_t samples, std::vector<int64_t>& counts) const {
  if (end - begin == 1) {
    counts[begin] = samples;
    return;
  }
  const Split& s = splits_[at];
  const int64_t first = first_of(s.share, samples);
  count(begin, s.middle, s.first, first, counts);
  count(s.middle, end, s.second, samples - first, counts);
}

std::vector<int64_t> Mixture::counts(int64_t samples) const {
  std::vector<int64_t> counts(shares_.size());
  count(0, shares_.size(), 0, samples, counts);
  return counts;
}

}  // namespace gf
