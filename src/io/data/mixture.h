// SPDX-License-Identifier: Apache-2.0
// How samples of several sources follow one another, by weight. Which source sample i comes from, and which of that
// source's own samples it is, are functions of i alone: no table, no state, and so the same for any number of ranks and
// after any stop. Each source's samples come in their order, none left out.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace gf {

class Mixture {
 public:
  // Weights count by their ratios, which are kept to the precision of a double; refused where one is not above a
  // billionth of all.
  explicit Mixture(std::span<const double> weights);

  struct Place {
    size_t source;
    int64_t sample;  // of the source, from 0
  };
  Place place(int64_t sample) const;
  // Of the first `samples`, how many come from each source: its share of them, within three.
  std::vector<int64_t> counts(int64_t samples) const;

  size_t size() const { return shares_.size(); }
  const std::vector<double>& shares() const { return shares_; }  // of all samples; their sum is 1

 private:
  // All samples are split in two, and each part again, until it is one source's.
  struct Split {
    uint64_t share;        // of the first part, in units of 2^-62
    size_t middle;         // the first source of the second part
    size_t first, second;  // how the parts are split, where they have more than one source
  };
  size_t split(size_t begin, size_t end);  // -> its place in splits_
  void count(size_t begin, size_t end, size_t at, int64_t samples, std::vector<int64_t>& counts) const;

  std::vector<double> shares_;
  std::vector<Split> splits_;
};

}  // namespace gf
