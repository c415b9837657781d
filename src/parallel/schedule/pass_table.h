// SPDX-License-Identifier: Apache-2.0
// A value for the result of each pass of each rank. Weights give no result that another pass needs, and a backward
// pass and its half for the inputs give the same one.
#pragma once
#include <vector>

#include "parallel/schedule/schedule.h"

namespace gf {

template <class T>
class PassTable {
 public:
  PassTable(int ranks, int pieces, int microbatches, const T& start)
      : pieces_(pieces), microbatches_(microbatches), values_(size_t{2} * ranks * pieces * microbatches, start) {}

  T& at(int rank, const Compute& c) { return values_[index(rank, c)]; }
  const T& at(int rank, const Compute& c) const { return values_[index(rank, c)]; }

 private:
  size_t index(int rank, const Compute& c) const {
    const auto piece = static_cast<size_t>(rank) * pieces_ + c.piece;
    return 2 * (piece * microbatches_ + c.microbatch) + (c.is_forward() ? 1 : 0);
  }
  size_t pieces_, microbatches_;
  std::vector<T> values_;
};

}  // namespace gf
