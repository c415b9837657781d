// SPDX-License-Identifier: Apache-2.0
#include "tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "base/out_of_memory.h"
#include "tensor/on_device.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace gf {
namespace {

constexpr size_t kAlign = 256;  // a multiple of every vector width and of a GPU's transaction
constexpr size_t kPage = 4096;
constexpr size_t kRegion = size_t{32} << 20;  // regions come in multiples of this, where there is no address space
constexpr size_t kSpace = size_t{64} << 30;   // address space that an arena grows in: no memory until it is used
constexpr size_t kGrowth = size_t{2} << 20;   // by so much: a large page

size_t round_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

[[noreturn]] void no_memory(size_t bytes) {
  throw OutOfMemory(cat("cannot get ", (bytes + (size_t{1} << 20) - 1) >> 20, " MiB of memory"));
}

std::byte* reserve(Device device, size_t bytes) {
  std::byte* region = nullptr;
  on_device(
      device,
      [&] {
        void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) no_memory(bytes);
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
    for (const auto& [region, r] : regions_) {
      if (device_.kind == Device::Kind::meta) continue;
      ASAN_UNPOISON_MEMORY_REGION(region, r.used);
      give_back(device_, region, r.bytes);
    }
  }

  std::byte* take(size_t wanted) {
    const size_t bytes = std::max(round_up(wanted, kAlign), kAlign);
    auto fit = by_size_.lower_bound({bytes, 0, nullptr});
    if (fit == by_size_.end()) {
      grow(bytes);
      fit = by_size_.lower_bound({bytes, 0, nullptr});
    }
    const auto [found, region, begin] = *fit;
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
    const size_t bytes = it->second;
    used_.erase(it);
    in_use_ -= bytes;
    if (device_.kind == Device::Kind::cpu) ASAN_POISON_MEMORY_REGION(begin, bytes);
    add_free(begin, bytes);
  }

  Device device_;
  size_t in_use_ = 0, peak_ = 0, reserved_ = 0;

 private:
  // Joined with its free neighbours, but not across the beginning of a region.
  void add_free(std::byte* begin, size_t bytes) {
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

  // The first tensor gets just its size, as a lone one does (lone_tensor). After it an arena grows at its end, so that
  // no tensor is cut off by a region's; on a GPU, which has no address space to grow in, by regions.
  void grow(size_t bytes) {
    if (regions_.empty() || is_like_gpu(device_) || !extend(bytes)) add_region(bytes);
  }

  bool extend(size_t bytes) {
    size_t at_end = 0;     // free already
    if (end_ != space_) {  // what ends where a space begins is of another region
      const auto last = by_address_.lower_bound(end_);
      if (last != by_address_.begin() && std::prev(last)->first + std::prev(last)->second == end_)
        at_end = std::prev(last)->second;
    }
    size_t more = round_up(bytes - std::min(bytes, at_end), kGrowth);
    if (more > left_) {
      more = round_up(bytes, kGrowth);
      if (more > kSpace || !add_space()) return false;
    }
    if (device_.kind == Device::Kind::cpu) {
      if (mprotect(end_, more, PROT_READ | PROT_WRITE) != 0) no_memory(more);
      madvise(end_, more, MADV_HUGEPAGE);
      ASAN_POISON_MEMORY_REGION(end_, more);
    }
    std::byte* const begin = end_;
    end_ += more;
    left_ -= more;
    regions_[space_].used += more;
    reserved_ += more;
    add_free(begin, more);
    return true;
  }

  // False where the system gives no address space (`ulimit -v`).
  bool add_space() {
    std::byte* space = next_meta_;
    if (device_.kind == Device::Kind::cpu) {
      void* const p = mmap(nullptr, kSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) return false;
      space = static_cast<std::byte*>(p);
    } else {
      next_meta_ += kSpace + kAlign;
    }
    regions_[space] = {kSpace, 0, regions_.size()};
    space_ = end_ = space;
    left_ = kSpace;
    return true;
  }

  void add_region(size_t bytes) {
    bytes = round_up(bytes, regions_.empty() ? kPage : kRegion);
    std::byte* region = nullptr;
    if (device_.kind == Device::Kind::meta) {
      region = next_meta_;  // addresses that nobody will follow
      next_meta_ += bytes + kAlign;
    } else {
      region = reserve(device_, bytes);
      if (device_.kind == Device::Kind::cpu) ASAN_POISON_MEMORY_REGION(region, bytes);
    }
    regions_[region] = {bytes, bytes, regions_.size()};
    reserved_ += bytes;
    insert_free(region, bytes);
  }
  void insert_free(std::byte* begin, size_t bytes) {
    by_address_[begin] = bytes;
    by_size_.insert({bytes, region_of(begin), begin});
  }
  void erase_free(std::byte* begin, size_t bytes) {
    by_address_.erase(begin);
    by_size_.erase({bytes, region_of(begin), begin});
  }
  size_t region_of(std::byte* begin) const { return std::prev(regions_.upper_bound(begin))->second.number; }

  struct Region {
    size_t bytes, used;  // used: from its beginning on, by tensors or free for them
    size_t number;       // in the order in which they were got
  };
  std::map<std::byte*, Region> regions_;
  std::map<std::byte*, size_t> by_address_, used_;
  // Of equal ones first that of the older region, wherever the system put it: meta tensors go where real ones do.
  std::set<std::tuple<size_t, size_t, std::byte*>> by_size_;
  std::byte *space_ = nullptr, *end_ = nullptr;  // the newest address space, and the end of what is used of it
  size_t left_ = 0;                              // behind that
  std::byte* next_meta_ = reinterpret_cast<std::byte*>(uintptr_t{1} << 20);
};

Arena::Arena(Device device) : pool_(std::make_shared<Pool>(device)) {}

Tensor Arena::empty(Shape shape, DType dtype) {
  std::byte* const data = pool_->take(static_cast<size_t>(shape.numel()) * size_of(dtype));
  return {std::shared_ptr<std::byte>(data, [pool = pool_](std::byte* p) { pool->put_back(p); }), shape, dtype,
          pool_->device_};
}

Tensor lone_tensor(Shape shape, DType dtype, Device device) {
  if (device.kind == Device::Kind::meta) return Arena(device).empty(shape, dtype);
  const size_t wanted = static_cast<size_t>(shape.numel()) * size_of(dtype);
  const size_t bytes = round_up(std::max<size_t>(wanted, 1), kPage);
  std::byte* const data = reserve(device, bytes);
  if (device.kind == Device::Kind::cpu) {
    ASAN_POISON_MEMORY_REGION(data, bytes);
    ASAN_UNPOISON_MEMORY_REGION(data, wanted);
  }
  const auto back = [device, bytes](std::byte* p) {
    if (device.kind == Device::Kind::cpu) ASAN_UNPOISON_MEMORY_REGION(p, bytes);
    give_back(device, p, bytes);
  };
  return {std::shared_ptr<std::byte>(data, back), shape, dtype, device};
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
