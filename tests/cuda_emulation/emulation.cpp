// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "streams.h"

namespace emulation {
namespace {

namespace context = boost::context;

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 128 << 10, kWord = 32;  // kWord: the most that a lane gives another at once

enum class Wait { nothing, warp, block, end };

struct Fiber {
  context::fiber self, caller;
  uint3 index;
  Wait wait = Wait::nothing;
  alignas(kWord) std::byte given[kWord];
};

// One block at a time. Fibers run until they wait; a barrier opens when all that have not ended wait at it.
class Block {
 public:
  Block(size_t threads, size_t shared) : fibers_(threads), shared_(shared + kWord), stacks_(kStack) {}

  void run(uint3 block, dim3 threads, dim3 blocks, const std::function<void()>& thread) {
    blockIdx = block, blockDim = threads, gridDim = blocks;
    // What shared memory holds at the beginning is anything: here numbers that are none.
    std::memset(shared_.data(), 0xff, shared_.size());
    for (size_t i = 0; i < fibers_.size(); ++i) begin(i, threads, thread);
    for (size_t left = fibers_.size(); left > 0;) {
      bool moved = false;
      for (size_t n = 0; n < fibers_.size(); ++n) {
        Fiber& f = fibers_[at(n)];
        if (f.wait != Wait::nothing) continue;
        current_ = &f;
        threadIdx = f.index;
        f.self = std::move(f.self).resume();
        left -= f.wait == Wait::end;
        moved = true;
      }
      moved |= open_warps();
      if (!moved && left > 0) open_block();
      ++round_;
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  void wait(Wait what) {
    Fiber& f = *current_;
    f.wait = what;
    f.caller = std::move(f.caller).resume();
  }

  void exchange(const void* given, size_t bytes, unsigned from, void* taken) {
    Fiber& f = *current_;
    if (bytes > kWord) die("a lane gives more than 32 bytes");
    std::memcpy(f.given, given, bytes);
    wait(Wait::warp);
    const size_t index = static_cast<size_t>(&f - fibers_.data()) / kWarp * kWarp + from;
    if (index >= fibers_.size()) die("a lane takes from one that is not there");
    std::memcpy(taken, fibers_[index].given, bytes);
    wait(Wait::warp);
  }

  void exchange_all(const void* given, size_t bytes, void* taken) {
    Fiber& f = *current_;
    if (bytes > kWord) die("a lane gives more than 32 bytes");
    std::memcpy(f.given, given, bytes);
    wait(Wait::warp);
    const size_t first = static_cast<size_t>(&f - fibers_.data()) / kWarp * kWarp;
    if (first + kWarp > fibers_.size()) die("lanes of a whole warp give, and some are not there");
    for (size_t l = 0; l < kWarp; ++l)
      std::memcpy(static_cast<std::byte*>(taken) + l * bytes, fibers_[first + l].given, bytes);
    wait(Wait::warp);
  }

  void* shared() {
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(shared_.data()) + kWord - 1) / kWord * kWord);
  }

 private:
  [[noreturn]] static void die(const char* what) {
    std::fprintf(stderr, "cuda_emulation: %s\n", what);
    std::abort();
  }

  // The n-th to run: another order each time.
  size_t at(size_t n) const {
    const size_t size = fibers_.size();
    return round_ % 3 == 0 ? n : round_ % 3 == 1 ? size - 1 - n : (n + size / 2 + 1) % size;
  }

  void begin(size_t i, dim3 threads, const std::function<void()>& thread) {
    Fiber& f = fibers_[i];
    const auto t = static_cast<unsigned>(i);
    f.index = {t % threads.x, t / threads.x % threads.y, t / threads.x / threads.y};
    f.wait = Wait::nothing;
    f.self = context::fiber(std::allocator_arg, stacks_, [this, &f, &thread](context::fiber&& caller) {
      f.caller = std::move(caller);
      try {
        thread();
      } catch (...) {
        if (!error_) error_ = std::current_exception();
      }
      f.wait = Wait::end;
      return std::move(f.caller);
    });
  }

  bool open_warps() {
    bool opened = false;
    for (size_t first = 0; first < fibers_.size(); first += kWarp) {
      const size_t end = std::min(first + kWarp, fibers_.size());
      size_t waiting = 0, ended = 0;
      for (size_t i = first; i < end; ++i) {
        waiting += fibers_[i].wait == Wait::warp;
        ended += fibers_[i].wait == Wait::end;
      }
      if (waiting == 0 || waiting + ended < end - first) continue;
      for (size_t i = first; i < end; ++i)
        if (fibers_[i].wait == Wait::warp) fibers_[i].wait = Wait::nothing;
      opened = true;
    }
    return opened;
  }

  void open_block() {
    for (const Fiber& f : fibers_)
      if (f.wait == Wait::warp) die("some lanes of a warp wait for others that wait for the block");
    for (Fiber& f : fibers_)
      if (f.wait == Wait::block) f.wait = Wait::nothing;
  }

  std::vector<Fiber> fibers_;
  std::vector<std::byte> shared_;
  context::pooled_fixedsize_stack stacks_;
  Fiber* current_ = nullptr;
  size_t round_ = 0;
  std::exception_ptr error_;
};

thread_local Block* block_of_this_thread = nullptr;

}  // namespace

void* dynamic_shared() {
  return block_of_this_thread->shared();
}
void wait_for_block() {
  block_of_this_thread->wait(Wait::block);
}
void wait_for_warp() {
  block_of_this_thread->wait(Wait::warp);
}
void exchange(const void* given, size_t bytes, unsigned from, void* taken) {
  block_of_this_thread->exchange(given, bytes, from, taken);
}
void exchange_all(const void* given, size_t bytes, void* taken) {
  block_of_this_thread->exchange_all(given, bytes, taken);
}

void run(dim3 blocks, dim3 threads, size_t shared, const std::function<void()>& thread) {
  const int64_t count = int64_t{blocks.x} * blocks.y * blocks.z;
  std::exception_ptr error;
#pragma omp parallel
  {
    Block block(size_t{threads.x} * threads.y * threads.z, shared);
    block_of_this_thread = &block;
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < count; ++i) {
      const auto b = static_cast<unsigned>(count - 1 - i);  // not in the order in which they would be counted
      try {
        block.run({b % blocks.x, b / blocks.x % blocks.y, b / blocks.x / blocks.y}, threads, blocks, thread);
      } catch (...) {
#pragma omp critical
        error = std::current_exception();
      }
    }
    block_of_this_thread = nullptr;
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace emulation

namespace {

int count_gpus() {
  const char* const told = std::getenv("GF_EMULATED_GPUS");
  return told ? std::atoi(told) : 0;
}

thread_local std::vector<int> shown;  // empty: all
thread_local int in_use = 0;          // of those shown
std::mutex touched_mutex;
std::set<int> touched;

}  // namespace

namespace emulation {

void show_gpus(std::vector<int> gpus) {
  shown = std::move(gpus);
}
int gpu_in_use() {
  return shown.empty() ? in_use : shown[static_cast<size_t>(in_use)];
}
void touch() {
  const std::lock_guard lock(touched_mutex);
  touched.insert(gpu_in_use());
}
std::set<int> take_touched() {
  const std::lock_guard lock(touched_mutex);
  return std::exchange(touched, {});
}

}  // namespace emulation

cudaError_t cudaMalloc(void** p, size_t bytes) {
  emulation::touch();
  emulation::wait_for_all();
  *p = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* p) {
  emulation::wait_for_all();
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
  return cudaMalloc(p, bytes);
}
cudaError_t cudaFreeHost(void* p) {
  return cudaFree(p);
}
cudaError_t cudaMemGetInfo(size_t* left, size_t* all) {
  emulation::touch();
  *left = *all = size_t{1} << 30;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = shown.empty() ? count_gpus() : static_cast<int>(shown.size());
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* index) {
  *index = in_use;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  int count = 0;
  (void)cudaGetDeviceCount(&count);
  if (index < 0 || index >= std::max(count, 1)) return cudaErrorInvalidDevice;
  in_use = index;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* of, int index) {
  *of = {"emulated on the CPU", {}, size_t{1} << 30, 1, 9, 0};
  of->uuid.bytes[15] = static_cast<char>(shown.empty() ? index : shown[static_cast<size_t>(index)]);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  constexpr int kShared = 227 << 10;  // as Hopper
  *value = what == cudaDevAttrComputeCapabilityMajor         ? 9
           : what == cudaDevAttrMaxSharedMemoryPerBlockOptin ? kShared
                                                             : 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  emulation::touch();
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "no such GPU";
    case cudaErrorInvalidResourceHandle:
      return "a stream or event of another GPU than that in use";
    case cudaErrorStreamCaptureUnsupported:
      return "not while work is captured";
    default:
      return "no error";
  }
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess ? "cudaSuccess" : "cudaError";
}
