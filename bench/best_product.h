// SPDX-License-Identifier: Apache-2.0
// The yardstick of a CPU's benches: oneDNN's own product of plain matrices, on the threads there are now.
#pragma once
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace gf {

// [rows, width] by [width, width], which most of a model's products are like.
class BestProduct {
 public:
  explicit BestProduct(int64_t rows = 2048, int64_t width = 768)
      : rows_(rows), width_(width), a_(rows * width, 0.5f), b_(width * width, 0.25f), c_(rows * width) {}

  // FLOP/s of the best of a few.
  double flops_per_second() {
    double best = 1e9;
    for (int i = 0; i < 6; ++i) {
      const Stopwatch watch;
      dnnl_sgemm('N', 'T', rows_, width_, width_, 1, a_.data(), width_, b_.data(), width_, 0, c_.data(), width_);
      best = std::min(best, watch.seconds());
    }
    return 2.0 * static_cast<double>(rows_ * width_ * width_) / best;
  }

 private:
  int64_t rows_, width_;
  std::vector<float> a_, b_, c_;
};

}  // namespace gf
