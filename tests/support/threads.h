// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <omp.h>

namespace gf {

// Kernels run on `n` threads as long as this lives.
class Threads {
 public:
  explicit Threads(int n) : before_(omp_get_max_threads()) { omp_set_num_threads(n); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace gf
