// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <vector>

#include "base/error.h"

namespace gf {

// The middle one of the values, of two the larger.
inline double median(std::vector<double> values) {
  GF_CHECK(!values.empty(), "the median of no values");
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace gf
