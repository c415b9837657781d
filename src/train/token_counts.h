// SPDX-License-Identifier: Apache-2.0
// How often each token was read.
#pragma once
#include <cstdint>
#include <map>
#include <span>

namespace gf {

class TokenCounts {
 public:
  void add(std::span<const int32_t> tokens) {
    for (const int32_t token : tokens) add(token, 1);
  }
  void add(int32_t token, int64_t times) { times_[token] += times, total_ += times; }
  const std::map<int32_t, int64_t>& times() const { return times_; }  // of those that were, in order
  int64_t total() const { return total_; }

 private:
  std::map<int32_t, int64_t> times_;
  int64_t total_ = 0;
};

}  // namespace gf
