// SPDX-License-Identifier: Apache-2.0
#include "tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "tensor/on_device.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace gf {
namespace {

constexpr size_t kAlign = 256;                // a multiple of every vector width and of a GPU's transaction
constexpr size_t kRegion = size_t{32} << 20;  // regions come in multiples of this, once an arena is in earnest

size_t round_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

std::byte* reserve(Device device, size_t bytes) {
  std::byte* region = nullptr;
  on_device(
      device,
      [&] {
        void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
          fail(cat("cannot get ", bytes >> 20, " MiB of memory"),
               "try a smaller --train.micro_bsz, or --train.grad_cp 1");
        if (bytes >= kRegion) madvise(p, bytes, MADV_HUGEPAGE);
        region = static_cast<std::byte*>(p);
      },
      [&](auto stream) { region = cuda::allocate(bytes, stream); });
  return region;
}

void give_back(Device device, std::byte* region, size_t bytes) {
  on_device(
      device, [&] { munmap(region, bytes); }, [&](auto stream) { cuda::release(region, stream); });
}

}  // namespace

class Arena::Pool {
 public:
  explicit Pool(Device device) : device_(device) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  ~Pool() {
    for (const auto& [region, bytes] : regions_) {
      if (device_.kind == Device::Kind::meta) continue;
      ASAN_UNPOISON_MEMORY_REGION(region, bytes);
      give_back(device_, region, bytes);
    }
  }

  std::byte* take(size_t wanted) {
    const size_t bytes = std::max(round_up(wanted, kAlign), kAlign);
    auto fit = by_size_.lower_bound({bytes, nullptr});
    if (fit == by_size_.end()) {
      grow(bytes);
      fit = by_size_.lower_bound({bytes, nullptr});
    }
    const auto [found, begin] = *fit;
    erase_free(begin, found);
    if (found > bytes) insert_free(begin + bytes, found - bytes);
    used_[begin] = bytes;
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_);
    if (device_.kind == Device::Kind::cpu) ASAN_UNPOISON_MEMORY_REGION(begin, wanted);
    return begin;
  }

  void put_back(std::byte* begin) {
    const auto it = used_.find(begin);
    size_t bytes = it->second;
    used_.erase(it);
    in_use_ -= bytes;
    if (device_.kind == Device::Kind::cpu) ASAN_POISON_MEMORY_REGION(begin, bytes);
    const auto next = by_address_.find(begin + bytes);
    if (next != by_address_.end() && !regions_.contains(next->first)) {
      const size_t more = next->second;
      erase_free(next->first, more);
      bytes += more;
    }
    if (!regions_.contains(begin)) {
      auto before = by_address_.lower_bound(begin);
      if (before != by_address_.begin() && (--before)->first + before->second == begin) {
        std::byte* const first = before->first;
        const size_t more = before->second;
        erase_free(first, more);
        begin = first;
        bytes += more;
      }
    }
    insert_free(begin, bytes);
  }

  Device device_;
  size_t in_use_ = 0, peak_ = 0, reserved_ = 0;

 private:
  void grow(size_t bytes) {
    // A lone tensor (Tensor::empty) gets just its size; an arena in earnest asks for large regions.
    if (!regions_.empty() || bytes >= kRegion) bytes = round_up(bytes, kRegion);
    std::byte* region = nullptr;
    if (device_.kind == Device::Kind::meta) {
      region = next_meta_;  // addresses that nobody will follow
      next_meta_ += bytes + kAlign;
    } else {
      bytes = round_up(bytes, 4096);
      region = reserve(device_, bytes);
      if (device_.kind == Device::Kind::cpu) ASAN_POISON_MEMORY_REGION(region, bytes);
    }
    regions_[region] = bytes;
    reserved_ += bytes;
    insert_free(region, bytes);
  }
  void insert_free(std::byte* begin, size_t bytes) {
    by_address_[begin] = bytes;
    by_size_.insert({bytes, begin});
  }
  void erase_free(std::byte* begin, size_t bytes) {
    by_address_.erase(begin);
    by_size_.erase({bytes, begin});
  }

  std::map<std::byte*, size_t> regions_, by_address_, used_;
  std::set<std::pair<size_t, std::byte*>> by_size_;
  std::byte* next_meta_ = reinterpret_cast<std::byte*>(uintptr_t{1} << 20);
};

Arena::Arena(Device device) : pool_(std::make_shared<Pool>(device)) {}

Tensor Arena::empty(Shape shape, DType dtype) {
  std::byte* const data = pool_->take(static_cast<size_t>(shape.numel()) * size_of(dtype));
  return {std::shared_ptr<std::byte>(data, [pool = pool_](std::byte* p) { pool->put_back(p); }), shape, dtype,
          pool_->device_};
}

Device Arena::device() const {
  return pool_->device_;
}
size_t Arena::bytes_in_use() const {
  return pool_->in_use_;
}
size_t Arena::peak_bytes() const {
  return pool_->peak_;
}
size_t Arena::reserved_bytes() const {
  return pool_->reserved_;
}
void Arena::reset_peak() {
  pool_->peak_ = pool_->in_use_;
}

}  // namespace gf
