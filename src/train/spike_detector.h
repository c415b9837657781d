// SPDX-License-Identifier: Apache-2.0
// Tells a step that should not be learned from: its loss or the norm of its gradient is not finite, or far above those
// of the steps before it.
#pragma once
#include <cstdint>
#include <deque>
#include <string>

namespace gf {

class SpikeDetector {
 public:
  struct Step {
    double loss, norm;
  };
  // A value is a spike where it lies more than `z` standard deviations above the mean of the last `window` steps that
  // were learned from; of norms, the logarithms are compared. Until there are kLeast, and with z 0, nothing is one.
  SpikeDetector(double z, int64_t window) : z_(z), window_(window) {}
  static constexpr int64_t kLeast = 20;

  // What is wrong with the step, with the values; empty where nothing is.
  std::string judge(const Step&) const;
  void add(const Step&);  // that was learned from

 private:
  double z_;
  int64_t window_;
  std::deque<Step> steps_;
};

}  // namespace gf
