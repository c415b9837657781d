// SPDX-License-Identifier: Apache-2.0
#include "tensor/pinned_memory.h"

#include <algorithm>
#include <bit>
#include <map>

#include "tensor/on_device.h"

namespace gf {

class PinnedMemory::Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    for (const auto& [bytes, p] : free_) give_back(p);
  }

  std::byte* take(size_t bytes) {
    const auto found = free_.find(bytes);
    if (found == free_.end()) return get(bytes);
    std::byte* const p = found->second;
    free_.erase(found);
    return p;
  }
  void put_back(std::byte* p, size_t bytes) { free_.emplace(bytes, p); }

 private:
  static std::byte* get(size_t bytes) {
    if constexpr (kWithCuda) return cuda::allocate_pinned(bytes);
    return new std::byte[bytes];
  }
  static void give_back(std::byte* p) {
    if constexpr (kWithCuda) return cuda::release_pinned(p);
    delete[] p;
  }
  std::multimap<size_t, std::byte*> free_;
};

PinnedMemory::PinnedMemory() : pool_(std::make_shared<Pool>()) {}

Tensor PinnedMemory::empty(Shape shape, DType dtype) {
  // Of few different sizes, at most an eighth more than is asked for.
  constexpr size_t kLeast = 4096;
  const size_t wanted = std::max(kLeast, static_cast<size_t>(shape.numel()) * size_of(dtype));
  const size_t step = std::bit_floor(wanted) / 8, bytes = (wanted + step - 1) / step * step;
  std::byte* const p = pool_->take(bytes);
  return {std::shared_ptr<std::byte>(p, [pool = pool_, bytes](std::byte* q) { pool->put_back(q, bytes); }), shape,
          dtype, kCpu};
}

}  // namespace gf
