// SPDX-License-Identifier: Apache-2.0
// Loops over independent blocks of work. How the work is cut never depends on the number of threads, so
// that every result has the same bits with one thread and with many; only who does a block may change.
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>

namespace gf {

// Calls body(i) for i in [0, count), in any order, on all OpenMP threads. The first exception is rethrown.
template <class Body>
void parallel_for(int64_t count, Body&& body) {
  std::exception_ptr error;
  std::mutex guard;
#pragma omp parallel for schedule(dynamic) if (count > 1)
  for (int64_t i = 0; i < count; ++i) {
    try {
      body(i);
    } catch (...) {
      const std::lock_guard lock(guard);
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

// [0, count) cut into `blocks` runs of equal length but the last. A fixed cut for reductions: one partial
// result a block, added up in block order.
struct Blocks {
  int64_t count, length;
  static Blocks of_length(int64_t count, int64_t length) { return {count, std::max<int64_t>(1, length)}; }
  static Blocks at_most(int64_t count, int64_t blocks, int64_t least) {
    return of_length(count, std::max((count + blocks - 1) / blocks, least));
  }
  int64_t size() const { return (count + length - 1) / length; }
  int64_t begin(int64_t block) const { return block * length; }
  int64_t end(int64_t block) const { return std::min(count, (block + 1) * length); }
};

// body(begin, end) for each block of [0, count).
template <class Body>
void parallel_ranges(int64_t count, int64_t length, Body&& body) {
  const Blocks blocks = Blocks::of_length(count, length);
  parallel_for(blocks.size(), [&](int64_t b) { body(blocks.begin(b), blocks.end(b)); });
}

}  // namespace gf
