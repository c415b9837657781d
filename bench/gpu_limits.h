// SPDX-License-Identifier: Apache-2.0
// For benches on a GPU: numbers as those of a run, times as the GPU itself takes them, and what it can do at best.
#pragma once
#include <algorithm>
#include <functional>
#include <vector>

#include "base/median.h"
#include "base/parallel_for.h"
#include "base/random.h"
#include "ops/cuda/gemm.h"
#include "tensor/arithmetic.h"
#include "tensor/on_device.h"

namespace gf {

// Between -1 and 1. Zeros would be done faster than what a run has: they take less power.
inline Tensor random_numbers(const char* name, const Shape& shape, DType dtype, Device device) {
  constexpr int64_t kSome = 1 << 20;  // which are repeated
  const int64_t n = shape.numel(), some = std::min(n, kSome);
  const Tensor here = Tensor::empty({some}, DType::f32, kCpu), all = Tensor::empty(shape, dtype, device);
  const Random random(1, name);
  parallel_for(
      some, [&](int64_t i) { here.data<float>()[i] = static_cast<float>(random.uniform(static_cast<uint64_t>(i))); });
  const Tensor there = on(device, here), rounded = Tensor::empty({some}, dtype, device), flat = all.view({n});
  convert(there, rounded);
  for (int64_t at = 0; at < n; at += some)
    copy(rounded.range(0, std::min(some, n - at)), flat.range(at, std::min(at + some, n)));
  return all;
}

// Seconds of a GPU at work for `body`: the median of some, after two that load and choose what they need. Each begins
// with caches that hold nothing of it; and while they are flushed, the processor gets ahead, so that what it takes to
// launch the work does not count.
class GpuTimer {
 public:
  explicit GpuTimer(Device device) : flush_(Tensor::empty({kFlushBytes / 4}, DType::f32, device)) {}

  double seconds([[maybe_unused]] const std::function<void()>& body, [[maybe_unused]] int times = 10) const {
    std::vector<double> all{0};
    if constexpr (kWithCuda) {
      constexpr int kWarmUp = 2;
      const CudaStream stream = cuda::current_stream();
      const CudaEvent begin = cuda::make_timed_event(), end = cuda::make_timed_event();
      all.clear();
      for (int i = 0; i < kWarmUp + times; ++i) {
        fill_zero(flush_);
        cuda::record(begin, stream);
        body();
        cuda::record(end, stream);
        cuda::wait(end);
        if (i >= kWarmUp) all.push_back(cuda::milliseconds_between(begin, end) / 1e3);
      }
      cuda::destroy(begin), cuda::destroy(end);
    }
    return median(all);
  }

 private:
  static constexpr int64_t kFlushBytes = int64_t{2} << 30;  // half a millisecond on a Hopper
  Tensor flush_;
};

// FLOP/s of cuBLASLt's product in bf16, 8192 x 8192 x 8192.
inline double gpu_product_peak(Device device, const GpuTimer& timer) {
  constexpr int64_t n = 8192;
  const Tensor a = random_numbers("a", {n, n}, DType::bf16, device),
               b = random_numbers("b", {n, n}, DType::bf16, device), c = Tensor::empty({n, n}, DType::bf16, device);
  const double seconds = timer.seconds([&] {
    if constexpr (kWithCuda)
      cuda::gemm(cuda::current_stream(), {false, true, n, n, n, n, n, n}, 1.F, a.data<BFloat16>(), b.data<BFloat16>(),
                 0.F, c.data<BFloat16>());
  });
  return 2.0 * n * n * n / seconds;
}

// Bytes/s of a copy, read and write counted.
inline double gpu_copy_peak(Device device, const GpuTimer& timer) {
  constexpr int64_t n = int64_t{1} << 29;
  const Tensor from = random_numbers("from", {n}, DType::f32, device), to = Tensor::empty({n}, DType::f32, device);
  return 8.0 * n / timer.seconds([&] { copy(from, to); });
}

}  // namespace gf
