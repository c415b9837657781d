// SPDX-License-Identifier: Apache-2.0
#include "train/planner/drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace gf {
namespace {

char letter_of(const Compute& c) {
  switch (c.pass) {
    case Compute::Pass::forward:
      return 'F';
    case Compute::Pass::backward:
      return 'B';
    case Compute::Pass::backward_input:
      return 'b';
    case Compute::Pass::backward_weight:
      return 'w';
  }
  return '?';
}

// As wide as gives the shortest pass its letter and its digit, where there is room for that.
double columns_a_second(const Simulation& s, int columns) {
  double shortest = std::numeric_limits<double>::infinity();
  for (const auto& rank : s.passes)
    for (const PassSpan& p : rank)
      if (p.end > p.begin) shortest = std::min(shortest, p.end - p.begin);
  return std::min(2 / shortest, columns / s.time);
}

}  // namespace

std::string drawing(const Simulation& s, int columns) {
  if (s.passes.empty() || !(s.time > 0)) return "";
  const double scale = columns_a_second(s, columns);
  const auto column = [&](double time) { return static_cast<size_t>(std::lround(time * scale)); };
  std::string text;
  for (size_t r = 0; r < s.passes.size(); ++r) {
    std::string row(column(s.time), '.');
    for (const PassSpan& p : s.passes[r]) {
      const size_t begin = column(p.begin), end = std::min(column(p.end), row.size());
      for (size_t i = begin; i < end; ++i)
        row[i] = i == begin       ? letter_of(p.pass)
                 : i == begin + 1 ? static_cast<char>('0' + p.pass.microbatch % 10)
                                  : '-';
    }
    text += fmt::format("  rank {:<4} {}\n", r, row);
  }
  return text;
}

}  // namespace gf
