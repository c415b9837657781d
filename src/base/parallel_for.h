// SPDX-License-Identifier: Apache-2.0
// Loops over independent blocks of work. How the work is cut never depends on the number of threads, so
// that every result has the same bits with one thread and with many; only who does a block may change.
#pragma once
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <vector>

namespace gf {

// Calls body(i) for i in [0, count) on all OpenMP threads. The first exception is rethrown. Each thread begins with a
// run of its own, the same in each loop of the same count: what it wrote of a tensor in one loop lies in its cache for
// the next. A thread that is done helps the others.
template <class Body>
void parallel_for(int64_t count, Body&& body) {
  struct alignas(64) Next {
    std::atomic<int64_t> index;
  };
  const int64_t threads = omp_in_parallel() ? 1 : std::min<int64_t>(omp_get_max_threads(), count);
  if (threads <= 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  std::vector<Next> next(threads);
  for (int64_t t = 0; t < threads; ++t) next[t].index = count * t / threads;
  std::exception_ptr error;
  std::mutex guard;
#pragma omp parallel num_threads(static_cast <int>(threads))
  for (int64_t k = 0; k < threads; ++k) {
    const int64_t run = (omp_get_thread_num() + k) % threads, end = count * (run + 1) / threads;
    for (int64_t i = next[run].index++; i < end; i = next[run].index++) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard lock(guard);
        if (!error) error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

// [0, count) cut into `blocks` runs of equal length but the last. A fixed cut for reductions: one partial
// result a block, added up in block order.
struct Blocks {
  int64_t count, length;
  static constexpr Blocks of_length(int64_t count, int64_t length) { return {count, std::max<int64_t>(1, length)}; }
  static constexpr Blocks at_most(int64_t count, int64_t blocks, int64_t least) {
    return of_length(count, std::max((count + blocks - 1) / blocks, least));
  }
  constexpr int64_t size() const { return (count + length - 1) / length; }
  constexpr int64_t begin(int64_t block) const { return block * length; }
  constexpr int64_t end(int64_t block) const { return std::min(count, (block + 1) * length); }
};

// body(begin, end) for each block of [0, count).
template <class Body>
void parallel_ranges(int64_t count, int64_t length, Body&& body) {
  const Blocks blocks = Blocks::of_length(count, length);
  parallel_for(blocks.size(), [&](int64_t b) { body(blocks.begin(b), blocks.end(b)); });
}

}  // namespace gf
