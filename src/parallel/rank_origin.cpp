// SPDX-License-Identifier: Apache-2.0
#include "parallel/rank_origin.h"

#include <utility>

#include "base/error.h"

namespace gf {

RankOrigin::RankOrigin(int rank, int size, std::string node) : rank_(rank), size_(size), node_(std::move(node)) {}

void RankOrigin::set_stage(int stage, int stages) {
  stage_ = stage;
  stages_ = stages;  // last: who sees it finds the stage
}

std::string RankOrigin::text() const {
  const int stages = stages_;
  return cat("rank ", rank_, " of ", size_, ", node ", node_,
             stages > 1 ? cat(", stage ", stage_.load(), " of ", stages) : "");
}

}  // namespace gf
